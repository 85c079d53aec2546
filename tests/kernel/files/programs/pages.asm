; Writes two whole pages of a file's window to the console, whatever they hold.

        .include "system.inc"

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .open
        inc     ecx
        jmp     .count
.open:
        call    file_open
        jc      failed
        call    file_peek
        jc      failed
        mov     esi, [file + File.window]
        mov     ecx, 2 * PAGE_SIZE
        SYSTEM  WRITE
        jc      failed
        xor     ebx, ebx
        SYSTEM  EXIT
failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .include "file.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
        .text
