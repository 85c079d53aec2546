; The kernel: everything that runs in ring 0.  One unit; the order of the includes is the order in memory.
;
; Registers with a fixed meaning in the kernel, from the entry stubs on:
;   DS, SS    flat kernel data
;   FS        thread control block of the current thread
;   GS        endpoint block, in the IPC path and in server threads
;   ES        message page while one is being filled or read, else flat kernel data

        .include "entry/macros.inc"

; For debuggers: gdb takes a caller whose stack lies below its callee's for a damaged chain, and the stacks of ring 3 lie
; below ours.  Frames here count as if the kernel's stacks began at 0.
        .frame_bias KERNEL_STACKS

        .section .boot
        .include "entry/boot.asm"

        ; The whole way of a request lies in one page: after a switch of page tables each page costs a TLB miss.
        .text
        .include "ipc/slots.asm"
        .include "ipc/ring.asm"
        .include "ipc/direct.asm"
        .include "ipc/client.asm"
        .include "ipc/server_half.asm"
        .include "entry/gates.asm"
        .include "console/console.asm"
        .include "entry/traps.asm"
        .include "threads/fpu.asm"
        .include "entry/interrupts.asm"
        .include "console/serial.asm"
        .include "threads/switch.asm"
        .include "entry/policy.asm"
        .include "entry/usercopy.asm"
        .include "ipc/hand_over.asm"
        .include "ipc/post.asm"
        .include "ipc/batch.asm"
        .include "threads/watch_thread.asm"
        .include "memory/accessed_bits.asm"
        .include "disk/disks.inc"

        .include "entry/words.asm"
