; A client that uses everything a volume offers, a number of times: its argument is the number of rounds, as a byte, then the
; path of a directory and, after a zero byte, that of a file.  It writes one byte for each call: 0, or the ErrorCode.

        .include "system.inc"

ROUNDS = USER_ARGUMENTS
DIRECTORY = USER_ARGUMENTS + 1

start:
        movzx   ebp, byte ptr [ROUNDS]
        mov     edi, DIRECTORY
        call    text_length
        mov     [directory_bytes], ecx
        lea     edi, [DIRECTORY + ecx + 1]
        mov     [file_path], edi
        call    text_length
        mov     [file_bytes], ecx

round:
        mov     esi, DIRECTORY
        mov     ecx, [directory_bytes]
        SYSTEM  LOCK_DIRECTORY
        call    note
        jc      .unlocked
        SYSTEM  UNLOCK_DIRECTORY
        call    note
.unlocked:
        mov     esi, [file_path]
        mov     ecx, [file_bytes]
        xor     edx, edx
        SYSTEM  OPEN
        call    note
        jc      .closed
        mov     ebx, eax
        xor     edx, edx
        xor     esi, esi
        mov     ecx, 1
        push    ebx
        SYSTEM  MAP_FILE
        call    note
        pop     ebx
        SYSTEM  CLOSE
        call    note
.closed:
        dec     ebp
        jnz     round
        xor     ebx, ebx
        SYSTEM  EXIT

; note: write what a call returned.
;   in:        CF, eax  ErrorCode if it is set
;   clobbers:  nothing; CF as it was
note:
        pushad
        pushfd
        mov     byte ptr [code], 0
        jnc     .good
        mov     [code], al
.good:
        mov     esi, code
        mov     ecx, 1
        SYSTEM  WRITE
        popfd
        popad
        ret

; text_length: out: ecx  bytes of the ASCIIZ at edi
text_length:
        xor     ecx, ecx
.next:
        cmp     byte ptr [edi + ecx], 0
        je      .end
        inc     ecx
        jmp     .next
.end:
        ret

        .bss
        .align  4
directory_bytes:
        .space  4
file_path:
        .space  4
file_bytes:
        .space  4
code:
        .space  4
