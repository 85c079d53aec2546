; The kernel: everything that runs in ring 0.  One unit; the order of the includes is the order in memory.
;
; Registers with a fixed meaning in the kernel, from the entry stubs on:
;   DS, SS    flat kernel data
;   FS        thread control block of the current thread
;   GS        partition block, in the IPC path and in server threads
;   ES        message page while one is being filled or read, else flat kernel data

        .include "macros.inc"

        .section .boot
        .include "boot.asm"

        .text
        .include "gates.asm"
        .include "console.asm"
        .include "traps.asm"
        .include "fpu.asm"
        .include "interrupts.asm"
        .include "serial.asm"
        .include "switch.asm"
        .include "policy.asm"
        .include "slots.asm"
        .include "ring.asm"
        .include "client.asm"
        .include "server.asm"
        .include "usercopy.asm"
        .include "post.asm"
        .include "watch_thread.asm"
        .include "disks.inc"

        .include "words.asm"
