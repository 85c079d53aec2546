; A far CALL that pushes to the kernel's pages, at the end of seven pages of straight code whose instructions end where
; the pages do: PAD bytes of it come first, so that blocks begin elsewhere.

        .include "attack.inc"

NOPS = 7 * PAGE_SIZE / 8

start:
        jmp     code

gained:
        mov     esp, USER_STACK_TOP - 16
        mov     ebx, GAINED
        SYSTEM  EXIT

        .align  PAGE_SIZE
code:
        .space  PAD, 0x90
        .rept   NOPS
        .byte   0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0         ; an 8-byte NOP
        .endr
        mov     esp, KERNEL_BASE + PAGE_SIZE
        call    SELECTOR_USER_CODE:gained
