; Looks at every second 64 KiB of a file, from its end to its beginning, and then once more.  The argument is the path.

        .include "system.inc"

STEP = 128 * 1024

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        call    look
again:  call    look
looked: xor     ebx, ebx
        SYSTEM  EXIT

look:
        call    file_size
        mov     ebp, eax
.next:
        sub     ebp, STEP
        jb      .done
        mov     eax, ebp
        xor     edx, edx
        call    file_seek
        call    file_peek
        jc      failed
        jecxz   failed
        mov     al, [eax]
        jmp     .next
.done:  ret

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
        .text
