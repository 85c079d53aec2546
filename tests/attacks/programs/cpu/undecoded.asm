; A far CALL that pushes to the kernel's pages, after an instruction that the engine executes and the decoder does not
; know, in a block that the engine is started at: an IRETD with VM in its image ends the slice before it.

        .include "attack.inc"

start:
        pushfd
        or      dword ptr [esp], 0x20000
        push    SELECTOR_USER_CODE
        push    unknown
        iretd

gained:
        mov     esp, USER_STACK_TOP - 16
        mov     ebx, GAINED
        SYSTEM  EXIT

        .align  64
unknown:
        .byte   0x0f, 0x1d, 0xc0        ; a reserved NOP
        mov     esp, KERNEL_BASE + PAGE_SIZE
        call    SELECTOR_USER_CODE:gained
