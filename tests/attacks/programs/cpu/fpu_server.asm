; A server with secrets in every register of x87, MMX and SSE: a request must neither change them nor bring it others.

        .include "system.inc"

start:
        call    fill
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        push    ebx
        call    kept
        pop     ebx
        jne     broken
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next

broken: ud2

        .include "fpu.inc"
