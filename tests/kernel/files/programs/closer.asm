; One thread waits for the first data of a file; after a while another closes it and opens a second file, whose first
; piece it writes to the console.  The argument is how long a while is, in nanoseconds, eight hexadecimal digits, and
; both paths with a blank between.  The exit code is the first thread's result: 0 or an ErrorCode.

        .include "system.inc"

DIGITS = 8
STACK = 4096
LOOK_AGAIN = 100000             ; nanoseconds

start:
        mov     esi, USER_ARGUMENTS
        xor     edx, edx
        mov     ecx, DIGITS
.digit:
        lodsb
        sub     al, '0'
        cmp     al, 9
        jbe     .add
        sub     al, 'a' - '0' - 10
.add:
        movzx   eax, al
        shl     edx, 4
        add     edx, eax
        loop    .digit
        mov     ebp, edx
        mov     ebx, first
        call    open_word
        push    esi
        mov     ebx, reader
        mov     ecx, stack + STACK
        SYSTEM  START_THREAD
        jc      failed
        mov     ecx, ebp
        xor     edx, edx
        SYSTEM  SLEEP
        mov     ebx, first
        call    file_close
        jc      failed
        pop     esi
        mov     ebx, second
        call    open_word
.wait:
        cmp     dword ptr [done], 0
        jne     .done
        mov     ecx, LOOK_AGAIN
        xor     edx, edx
        SYSTEM  SLEEP
        jmp     .wait
.done:
        call    file_peek
        jc      failed
        mov     esi, eax
        SYSTEM  WRITE
        jc      failed
        mov     ebx, [status]
        SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

reader:
        mov     ebx, first
        call    file_peek
        jc      .failed
        xor     eax, eax
.failed:
        mov     [status], eax
        mov     dword ptr [done], 1
.sleep:
        mov     ecx, -1
        xor     edx, edx
        SYSTEM  SLEEP
        jmp     .sleep

; open_word: open the path at ESI, up to a blank or zero; ESI moves past it.
open_word:
        xor     ecx, ecx
.count:
        mov     al, [esi + ecx]
        cmp     al, ' '
        jbe     .open
        inc     ecx
        jmp     .count
.open:
        call    file_open
        jc      failed
        lea     esi, [esi + ecx + 1]
        ret

        .include "file.asm"

        .bss
        .align 4
first:  .space  sizeof(File)
second: .space  sizeof(File)
status: .space  4
done:   .space  4
stack:  .space  STACK
        .text
