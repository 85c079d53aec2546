; A server that takes every request and answers none.

        .include "system.inc"

start:
        mov     eax, ServerCall.WAIT
        call    SELECTOR_SERVER_GATE:0
        jmp     start
