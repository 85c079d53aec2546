; The direct switch: a client enters the ring 3 of a server thread that sleeps, and the reply goes straight back to it,
; without the detour through the ring, a wait and a choice.  It is the short form of what client.asm, server_half.asm and
; switch.asm do, for the case in which all of it is settled beforehand: the ring is empty, no other thread is ready, no
; timer is to be armed and no x87 or SSE state to be locked.  Otherwise the long form is taken.
;
; Interrupts are off from the first test to the RETF, so nothing on this CPU comes between; DS is still the caller's, and
; words of the kernel's are reached through SS.  The masks change by locked instructions, as everywhere.  A kill or a
; wake-up from outside (a debugger's) may come at any instruction, as in HAND_OVER.
;
; A thread that has given the CPU away here can be resumed by any other way, too: it leaves the SwitchFrame of a thread
; that waits at the gate.

; DIRECT_SWITCH: the thread with selector EDX, whose control block is in ES, runs from here on.
; Out: ESP = its GateFrame, page tables and LDT are its own.  Clobbers EBX.  FS keeps the last thread's block.
        .macro DIRECT_SWITCH resume
        push    offset \resume
        push    KERNEL_EFLAGS
        pushad
        mov     fs:[ThreadControlBlock.esp], esp
        mov     dword ptr es:[ThreadControlBlock.state], ThreadState.RUNNING
        .ledger fast_handoffs
        mov     ss:[kernel_words + KernelWords.next], edx
        .endm

; DIRECT_SPACE: the second half: stack, page tables and LDT.
        .macro DIRECT_SPACE
        mov     ss:[kernel_words + KernelWords.current], edx
        mov     ebx, es:[ThreadControlBlock.esp0]
        .event  thread.switch to=es
        mov     ss:[task_state + TaskState.esp0], ebx
        lea     esp, [ebx - sizeof(GateFrame)]
        .frame  like leave_gate
        mov     ebx, es:[ThreadControlBlock.cr3]
        .ledger cr3_loads
        mov     cr3, ebx
        lldt    word ptr es:[ThreadControlBlock.ldt]
        .endm

; NOTE_WAIT reason, undo: the current thread blocks; at `undo` if it must not (it is killed, or a wake-up has come).
; The flags are looked at after the store: a wake-up from outside has left SIGNALLED before it, or finds us blocked.
        .macro NOTE_WAIT reason, undo
        mov     dword ptr fs:[ThreadControlBlock.state], ThreadState.BLOCKED | \reason << 16
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED | ThreadFlags.SIGNALLED
        jnz     \undo
        .endm

; UNDO_WAIT: it does not block after all.  A wake-up that has come since NOTE_WAIT is kept.  Clobbers EDX and flags.
        .macro UNDO_WAIT
        mov     edx, ThreadState.RUNNING
        xchg    fs:[ThreadControlBlock.state], edx
        cmp     edx, ThreadState.READY
        jne     .undone\@
        lock or dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.SIGNALLED
.undone\@:
        .endm

; DIRECT_REQUEST post, undo: hand the request in slot ECX, whose page is filled, to a server thread that sleeps.
;   in:        gs   endpoint, fs  thread, ebp  offset of the slot record, [esp]  GateFrame; IF=0
;   leaves by: retf to the server's ring 3; at `post` or `undo` nothing has changed but EBX, EDX, EDI, ES and flags,
;              and at `undo` the thread's state
        .macro DIRECT_REQUEST post, undo
.direct:
        cmp     dword ptr ss:[kernel_words + KernelWords.arm_timer], 0
        jne     \post
        mov     ebx, gs:[Endpoint.head]
        cmp     ebx, gs:[Endpoint.tail]
        jne     \post
        bsf     edi, gs:[Endpoint.idle]
        jz      \post
        movzx   edx, word ptr gs:[Endpoint.servers + edi * 2]
        mov     es, edx
        cmp     dword ptr es:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.REQUEST << 16
        jne     \post
        NOTE_WAIT WaitReason.CALL, \undo
        lock btr dword ptr gs:[Endpoint.idle], edi
        jnc     \undo

        .ledger requests
        .ledger fast_requests
        .ledger blocking_waits
        lock inc dword ptr gs:[Endpoint.fast]
        .event  ipc.post slot=ecx
        DIRECT_SWITCH resume_call
.turn:
        DIRECT_SPACE

        ; Serve: the page appears in the server.
        .event  ipc.fetch slot=ecx
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.SERVED
        mov     gs:[Endpoint.server_of + ecx * 2], dx
        mov     ebx, gs:[Endpoint.window_table]
        mov     edx, gs:[Endpoint.slots + ebp + SlotRecord.physical]
        or      edx, MESSAGE_PAGE_BITS
        .ledger pte_writes
        mov     ss:[ebx + ecx * 8], edx
        mov     ebx, gs:[Endpoint.slots + ebp + SlotRecord.linear]
        .event  ipc.map slot=ecx linear=ebx
        mov     [esp + GateFrame.ebx], ebx
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        test    dword ptr es:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        LEAVE_KERNEL
        popad
        popfd
.leaving:
        retf
        .endm

; DIRECT_REPLY reply, undo: hand the reply of registers to its client, if that waits at the gate, and sleep.
;   in:        gs   endpoint, fs  thread, ebx  handle, [esp]  GateFrame; IF=0
;   leaves by: retf to the client's ring 3; at `reply` or `undo` nothing has changed but EAX, ECX, EDX, EBP, EDI, ES and
;              flags, and at `undo` the thread's state and its bit in `idle`
        .macro DIRECT_REPLY reply, undo
.direct:
        cmp     dword ptr ss:[kernel_words + KernelWords.arm_timer], 0
        jne     \reply
        mov     ebp, ebx
        and     ebp, SLOTS - 1
        cmp     ebx, gs:[Endpoint.handles + ebp * 4]
        jne     \reply
        mov     edx, fs
        cmp     gs:[Endpoint.server_of + ebp * 2], dx
        jne     \reply
        mov     edi, ebp
        shl     edi, SLOT_RECORD_SHIFT
        movzx   edx, word ptr gs:[Endpoint.slots + edi + SlotRecord.client]
        test    edx, edx
        jz      \reply
        mov     es, edx
        cmp     dword ptr es:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.CALL << 16
        jne     \reply

        ; Announce the sleep, then look for requests.
        mov     ecx, fs:[ThreadControlBlock.server_index]
        lock bts dword ptr gs:[Endpoint.idle], ecx
        mov     eax, gs:[Endpoint.head]
        cmp     eax, gs:[Endpoint.tail]
        jne     \undo
        NOTE_WAIT WaitReason.REQUEST, \undo

        ; The page leaves the server: no entry now, and none in the TLB after the load of CR3, before a byte is read.
        .event  ipc.reply slot=ebp type=ServerCall.REPLY_REGISTERS
        mov     ebx, gs:[Endpoint.window_table]
        .ledger pte_writes
        mov     dword ptr ss:[ebx + ebp * 8], 0
        .event  ipc.unmap slot=ebp
        add     dword ptr gs:[Endpoint.handles + ebp * 4], 1 << HANDLE_GENERATION_SHIFT
        mov     word ptr gs:[Endpoint.slots + edi + SlotRecord.client], 0
        mov     word ptr gs:[Endpoint.server_of + ebp * 2], 0
        .ledger fast_replies
        lock inc dword ptr gs:[Endpoint.replies]
        DIRECT_SWITCH next_request.woken
.turn:
        DIRECT_SPACE

        ; Reload, and release.
        .event  ipc.wake slot=ebp
        mov     fs, word ptr gs:[Endpoint.slots + edi + SlotRecord.selector]
        mov     word ptr fs:[Message.reply], ReplyType.REGISTERS
        mov     eax, fs:[Message.eflags]
        xor     eax, [esp + GateFrame.eflags]
        and     eax, STATUS_FLAGS
        xor     [esp + GateFrame.eflags], eax
        .event  ipc.reload slot=ebp
        mov     eax, fs:[Message.eax]
        mov     ebx, fs:[Message.ebx]
        mov     ecx, fs:[Message.ecx]
        mov     edx, fs:[Message.edx]
        mov     esi, fs:[Message.esi]
        mov     edi, fs:[Message.edi]
        mov     byte ptr gs:[Endpoint.state + ebp], SlotState.FREE
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     .give_direct
        lock bts dword ptr gs:[Endpoint.free], ebp
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     .rescue_direct
.released_direct:
        .event  ipc.release slot=ebp
        mov     ebp, [esp + GateFrame.ebp]
        test    dword ptr es:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        LEAVE_KERNEL
        add     esp, PUSHAD_SIZE
        popfd
.leaving:
        retf

        ; A thread waits for a slot: see RELEASE_FAST.
.rescue_direct:
        lock btr dword ptr gs:[Endpoint.free], ebp
        jnc     .released_direct
.give_direct:
        push    eax
        mov     eax, gs:[Endpoint.number]
        shl     eax, 16
        or      eax, ebp
        HOST    SLOT_GIVE
        pop     eax
        jmp     .released_direct
        .endm
