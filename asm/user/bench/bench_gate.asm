; The client of the benchmark `call-gate`: through the IPC gate and back, for an endpoint that does not exist,
; so that nothing is done in ring 0 but to enter, refuse and leave.

start:
        mov     ebp, -1
before:
        call    SELECTOR_IPC_GATE:0
after:
        jmp     before
