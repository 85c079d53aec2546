; Makes one request of the endpoint whose number is the first byte of its argument; ends with HELD if it was answered
; with the registers that it sent, with 100 + ErrorCode if it failed, with GAINED if the registers are wrong.

        .include "attack.inc"

start:
        movzx   ebp, byte ptr [USER_ARGUMENTS]
        dec     ebp
        shl     ebp, 16
        or      ebp, OPERATION_SERVER_DEFINED
        mov     eax, 0x11111111
        mov     edi, 0x22222222
        call    SELECTOR_IPC_GATE:0
        lea     ebx, [eax + 100]
        jc      .end
        mov     ebx, GAINED
        cmp     eax, 0x11111111
        jne     .end
        cmp     edi, 0x22222222
        jne     .end
        mov     ebx, HELD
.end:
        SYSTEM  EXIT
