; Never enters the kernel by itself.

        .include "system.inc"

start:  jmp     start
