; Starts a program whose path and arguments lie in a file that has not yet been read: the file at the path in
; its argument holds the path in its first page and the arguments, zero-terminated, at the end of the second.

        .include "system.inc"

PATH_SIZE = 10

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        mov     esi, [file + File.window]
        lea     edi, [esi + 2 * PAGE_SIZE - 8]
        mov     ecx, PATH_SIZE
        SYSTEM  START_PROCESS
        jc      failed
        mov     ebx, eax
        SYSTEM  WAIT_PROCESS
        jc      failed
        mov     ebx, eax
        SYSTEM  EXIT

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
        .text
