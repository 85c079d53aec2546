; Two programs that differ in one instruction: RANDOM is 0 for a division, 1 for RDRAND at the same address.

        .include "attack.inc"

start:
        mov     ebp, 4
        mov     ecx, 7
.again:
        mov     eax, 100
        cdq
        .if RANDOM
        .byte   0x0f, 0xc7, 0xf2        ; rdrand edx
        jmp     gained
        .else
        idiv    ecx
        nop
        .endif
        dec     ebp
        jnz     .again
        mov     ebx, HELD
        SYSTEM  EXIT
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT
