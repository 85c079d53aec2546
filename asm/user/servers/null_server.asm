; A server with one operation that returns every register unchanged: the least that a request costs.

start:
        jmp     serve

null:
        mov     ebp, ServerCall.REPLY_REGISTERS
        clc
        ret

        .text
        .align 4
operations:
        .long   null
OPERATIONS = ($ - operations) / 4
        .text

        .include "server.asm"
