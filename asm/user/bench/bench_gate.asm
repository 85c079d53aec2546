; The client of the benchmark `call-gate`: through the IPC gate and back, for an endpoint that does not exist,
; so that ring 0 only enters, refuses and leaves.

start:
        mov     ebp, -1
before:
        call    SELECTOR_IPC_GATE:0
after:
        jmp     before
