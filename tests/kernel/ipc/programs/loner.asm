; Makes one system call, and then computes for ever.

        .include "system.inc"

start:
        SYSTEM  CLOCK
forever:
        jmp     forever
