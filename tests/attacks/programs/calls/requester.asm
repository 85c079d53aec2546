; Makes requests of the endpoint whose number is the first byte of its argument until its server has died.

        .include "attack.inc"

start:
        movzx   ebp, byte ptr [USER_ARGUMENTS]
        dec     ebp
        shl     ebp, 16
        or      ebp, OPERATION_SERVER_DEFINED
.next:
        call    SELECTOR_IPC_GATE:0
        jnc     .next
        cmp     eax, ErrorCode.SERVER_DIED
        jne     .next
        mov     ebx, HELD
        SYSTEM  EXIT
