; A server that takes a request, and computes from then on.

        .include "system.inc"

start:
        mov     eax, ServerCall.WAIT
        call    SELECTOR_SERVER_GATE:0
        jmp     $
