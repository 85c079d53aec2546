; Writes two whole pages of a file's window to the console, whatever they hold.

        .include "system.inc"

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        call    file_peek
        jc      failed
        mov     esi, [file + File.window]
        mov     ecx, 2 * PAGE_SIZE
        SYSTEM  WRITE
        jc      failed
        xor     ebx, ebx
        SYSTEM  EXIT

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
        .text
