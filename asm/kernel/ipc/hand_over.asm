; hand_over_request: enter the ring 3 of a server thread that sleeps with a request that has not been posted, if there is
; nothing to choose, as DIRECT_REQUEST does; this thread waits within the kernel.
;   in:        gs   endpoint, ecx  slot index, filled; fs  thread; eax  ThreadState.BLOCKED, and in the upper half its reason
;   out:       CF=0  woken, as after `block`        CF=1  it cannot be handed over, nothing has changed
;   clobbers:  eax, ebx, edx, es, flags; with CF=0 gs
;   state:     ring 0, any IF
;   leaves by: ret
hand_over_request:
        clc
        pushfd
        cli
        cmp     dword ptr [kernel_words + KernelWords.arm_timer], 0
        jne     .refuse
        mov     ebx, gs:[Endpoint.head]
        cmp     ebx, gs:[Endpoint.tail]
        jne     .refuse
        bsf     ebx, gs:[Endpoint.idle]
        jz      .refuse
        movzx   edx, word ptr gs:[Endpoint.servers + ebx * 2]
        mov     es, edx
        cmp     dword ptr es:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.REQUEST << 16
        jne     .refuse
        mov     fs:[ThreadControlBlock.state], eax
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED | ThreadFlags.SIGNALLED
        jnz     .undo
        lock btr dword ptr gs:[Endpoint.idle], ebx
        jnc     .undo

        GIVE_SLOT
        pushad
        mov     fs:[ThreadControlBlock.esp], esp
        mov     dword ptr es:[ThreadControlBlock.state], ThreadState.RUNNING
        .ledger fast_handoffs
        mov     [kernel_words + KernelWords.next], edx
        lea     ebp, [ecx + ecx]
        movzx   ebx, word ptr gs:[Endpoint.slots + ebp * 8 + SlotRecord.client]
        mov     ebp, gs:[Endpoint.slots + ebp * 8 + SlotRecord.physical]
        mov     fs, edx
.turn:
        DIRECT_STACK
        DIRECT_SPACE
        jmp     ipc_gate.arrived

.undo:
        UNDO_WAIT
.refuse:
        push    ds
        pop     es
        popfd
        stc
        ret
