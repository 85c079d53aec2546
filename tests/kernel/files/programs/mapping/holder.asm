; Holds a version of a directory while it changes: locks the directory, has it change by an OPEN that fails, locks it
; again, writes the first 64 bytes of the version held, of the new one, and of the version held again after the new one
; has been unlocked; then it unlocks the first.  The argument is the path of the directory and the path to open, with a
; blank between.  The exit code is 0, or 100 + ErrorCode.

        .include "system.inc"

SHOWN = 64

start:
        mov     esi, USER_ARGUMENTS
        call    length
        mov     [path_length], ecx
        call    lock
        mov     [old], eax
        mov     [old_lock], edx
        call    show

        ; The open fails: what counts is that the server changes the directory.
        mov     ecx, [path_length]
        lea     esi, [USER_ARGUMENTS + ecx + 1]
        call    length
        xor     edx, edx
        SYSTEM  OPEN
        mov     esi, USER_ARGUMENTS
        mov     ecx, [path_length]
        call    lock
        mov     [new_lock], edx
        call    show
        mov     edx, [new_lock]
        SYSTEM  UNLOCK_DIRECTORY
        jc      failed
        mov     eax, [old]
        call    show
        mov     edx, [old_lock]
        SYSTEM  UNLOCK_DIRECTORY
        jc      failed
        xor     ebx, ebx
        SYSTEM  EXIT

lock:   SYSTEM  LOCK_DIRECTORY
        jc      failed
        ret

; show: write the first bytes at EAX to the console.
show:   mov     esi, eax
        mov     ecx, SHOWN
        SYSTEM  WRITE
        jc      failed
        ret

; length: ECX = bytes at ESI up to a blank or zero.
length: xor     ecx, ecx
.next:
        cmp     byte ptr [esi + ecx], ' '
        jbe     .end
        inc     ecx
        jmp     .next
.end:
        ret

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .bss
        .align 4
path_length:
        .space  4
old:    .space  4
old_lock:
        .space  4
new_lock:
        .space  4
        .text
