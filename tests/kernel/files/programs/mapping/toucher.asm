; Touches a file's window, lets time go by in which what was read ahead arrives, touches that, and then computes for ever
; without a call.

        .include "system.inc"

PIECE = MESSAGE_ADDRESSES * PAGE_SIZE  ; what one request brings
PAUSE = 2_000_000

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        call    file_peek
        jc      failed
        mov     esi, [file + File.window]
        mov     al, [esi]
        mov     ecx, PAUSE
.pause:
        dec     ecx
        jnz     .pause
last:
        mov     al, [esi + PIECE]
spin:
        jmp     spin

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
        .text
