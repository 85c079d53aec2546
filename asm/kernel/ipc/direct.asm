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
;
; What asks from within the kernel (policy, a batch) hands its request over in the same way (`hand_over_request`), and
; waits where its reply can be looked at: the reply of registers goes straight back there (ANSWER_INSIDE).

; A descriptor costs a look into the GDT, and a load of ES or DS the engine's way from one block of code to the next as
; well.  So none is loaded that can be done without: a message page is reached where all low memory is mapped, a thread's
; own block above its stack, where EBP and ESP go through SS; FS is the other thread's block.

; The thread's own control block lies above its stack, at whose top the GateFrame is.
OWN_BLOCK = sizeof(GateFrame)

; DIRECT_SWITCH resume: the thread with selector EDX, whose control block is in FS, runs from here on, and this one goes
; on at `resume` when it is woken.
        .macro DIRECT_SWITCH resume
        push    offset \resume
        push    KERNEL_EFLAGS
        pushad
        mov     [esp + sizeof(SwitchFrame) + OWN_BLOCK + ThreadControlBlock.esp], esp
        mov     dword ptr fs:[ThreadControlBlock.state], ThreadState.RUNNING
        .ledger fast_handoffs
        mov     ss:[kernel_words + KernelWords.next], edx
        .endm

; DIRECT_STACK: the second half: the kernel stack of the thread with selector EDX, whose turn begins with the first
; instruction, at `.turn` (`boot.py` has it counted).
; Out: ESP = the thread's GateFrame.  Clobbers EDX.
        .macro DIRECT_STACK
        mov     ss:[kernel_words + KernelWords.current], edx
        mov     edx, fs:[ThreadControlBlock.esp0]
        .event  thread.switch to=fs
        mov     ss:[task_state + TaskState.esp0], edx
        lea     esp, [edx - sizeof(GateFrame)]
        .frame  like leave_gate
        .endm

; DIRECT_SPACE: the third part, where the page tables are not loaded beforehand.  Clobbers EDX.
        .macro DIRECT_SPACE
        mov     edx, fs:[ThreadControlBlock.cr3]
        .ledger cr3_loads
        mov     cr3, edx
        .endm

; NOTE_WAIT reason, undo: the current thread blocks; at `undo` if it must not (it is killed, or a wake-up has come).
; The flags are looked at after the store: a wake-up from outside has left SIGNALLED before it, or finds us blocked.
        .macro NOTE_WAIT reason, undo
        mov     dword ptr [esp + OWN_BLOCK + ThreadControlBlock.state], ThreadState.BLOCKED | \reason << 16
        test    dword ptr [esp + OWN_BLOCK + ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED | ThreadFlags.SIGNALLED
        jnz     \undo
        .endm

; UNDO_WAIT: it does not block after all.  A wake-up that has come since NOTE_WAIT is kept.  In: FS = the thread's block.
; Clobbers EDX and flags.
        .macro UNDO_WAIT
        mov     edx, ThreadState.RUNNING
        xchg    fs:[ThreadControlBlock.state], edx
        cmp     edx, ThreadState.READY
        jne     .undone\@
        lock or dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.SIGNALLED
.undone\@:
        .endm

; GIVE_SLOT: slot ECX, filled, is served by the thread with selector EDX from here on.  It is marked so before the thread
; is noted: a slot that has a server is never in another state.  Clobbers flags.
        .macro GIVE_SLOT
        .ledger requests
        .ledger fast_requests
        .ledger blocking_waits
        lock inc dword ptr gs:[Endpoint.fast]
        .event  ipc.post slot=ecx
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.SERVED
        mov     gs:[Endpoint.server_of + ecx * 2], dx
        .endm

; DIRECT_REQUEST post, undo: hand the request in slot ECX, whose page is filled, to a server thread that sleeps.
;   in:        gs   endpoint, ebp  physical address of the page, [esp]  GateFrame; IF=0
;   leaves by: retf to the server's ring 3; at `post` or `undo` nothing has changed but EBX, EDX, EDI, FS and flags,
;              and at `undo` the thread's state
        .macro DIRECT_REQUEST post, undo
.direct:
        mov     ebx, gs:[Endpoint.head]
        xor     ebx, gs:[Endpoint.tail]
        or      ebx, ss:[kernel_words + KernelWords.arm_timer]
        jnz     \post
        bsf     edi, gs:[Endpoint.idle]
        jz      \post
        NOTE_WAIT WaitReason.CALL, \undo
        lock btr dword ptr gs:[Endpoint.idle], edi
        jnc     \undo

        ; The server's page tables come before its thread's block, which is then looked up in them only.
        mov     ebx, gs:[Endpoint.space]
        .ledger cr3_loads
        mov     cr3, ebx
        movzx   edx, word ptr gs:[Endpoint.servers + edi * 2]
        mov     fs, edx
        cmp     dword ptr fs:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.REQUEST << 16
        jne     .awake

        GIVE_SLOT
        mov     ebx, ss:[kernel_words + KernelWords.current]
        DIRECT_SWITCH resume_call
.turn:
        DIRECT_STACK
.arrived:
        lldt    word ptr fs:[ThreadControlBlock.ldt]

        ; Serve: the page appears in the server.
        .event  ipc.fetch slot=ecx
        lea     edx, [ecx + ecx]
        mov     gs:[Endpoint.slots + edx * 8 + SlotRecord.client], bx
        mov     ebx, gs:[Endpoint.window_table]
        add     ebp, MESSAGE_PAGE_BITS
        .ledger pte_writes
        mov     ss:[ebx + ecx * 8], ebp
        mov     ebx, gs:[Endpoint.slots + edx * 8 + SlotRecord.linear]
        .event  ipc.map slot=ecx linear=ebx
        mov     [esp + GateFrame.ebx], ebx
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        test    dword ptr [esp + OWN_BLOCK + ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        mov     eax, es
        cmp     ax, [esp + GateFrame.es]
        jne     .other_segment
        mov     eax, ds
        cmp     ax, [esp + GateFrame.ds]
        jne     .other_segment
        pop     gs
        pop     fs
        add     esp, GateFrame.edi - GateFrame.es
.loaded:
        popad
        popfd
.leaving:
        retf

.other_segment:
        LEAVE_KERNEL
        jmp     .loaded

        ; The thread does not sleep after all, so it may need the signal yet: its bit is set again.
.awake:
        mov     ebx, [esp + OWN_BLOCK + ThreadControlBlock.cr3]
        .ledger cr3_loads
        mov     cr3, ebx
        lock bts dword ptr gs:[Endpoint.idle], edi
        jmp     \undo
        .endm

; ANSWER undo: have the thread EDX, which waits for the reply in slot EBP, run in place of this one, which sleeps until
; there is a request.
;   in:        gs   endpoint, fs  the client's block, edi  twice the slot, [esp]  GateFrame
        .macro ANSWER undo
        ; Announce the sleep, then look for requests.
        mov     ecx, [esp + OWN_BLOCK + ThreadControlBlock.server_index]
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
        mov     word ptr gs:[Endpoint.slots + edi * 8 + SlotRecord.client], 0
        mov     word ptr gs:[Endpoint.server_of + ebp * 2], 0
        .ledger fast_replies
        lock inc dword ptr gs:[Endpoint.replies]
        DIRECT_SWITCH next_request.woken
        .endm

; DIRECT_REPLY reply, undo: hand the reply of registers to its client, if that waits at the gate, and sleep.
;   in:        gs   endpoint, ebx  handle, [esp]  GateFrame; IF=0
;   leaves by: retf to the client's ring 3; at `.inside`, if the client waits for something else; at `reply` or `undo`
;              nothing has changed but EAX, ECX, EDX, EBP, EDI, FS and flags, and at `undo` the thread's state and its
;              bit in `idle`, ECX
        .macro DIRECT_REPLY reply, undo
.direct:
        cmp     dword ptr ss:[kernel_words + KernelWords.arm_timer], 0
        jne     \reply
        mov     ebp, ebx
        and     ebp, SLOTS - 1
        cmp     ebx, gs:[Endpoint.handles + ebp * 4]
        jne     \reply
        mov     edx, ss:[kernel_words + KernelWords.current]
        cmp     gs:[Endpoint.server_of + ebp * 2], dx
        jne     \reply
        lea     edi, [ebp + ebp]
        movzx   edx, word ptr gs:[Endpoint.slots + edi * 8 + SlotRecord.client]
        test    edx, edx
        jz      \reply
        mov     fs, edx
        cmp     dword ptr fs:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.CALL << 16
        jne     .inside
        ANSWER  \undo
.turn:
        DIRECT_STACK
.arrived:
        DIRECT_SPACE
        lldt    word ptr fs:[ThreadControlBlock.ldt]

        ; Reload, and release.
        .event  ipc.wake slot=ebp
        mov     edi, gs:[Endpoint.slots + edi * 8 + SlotRecord.physical]
        mov     eax, ss:[edi + KERNEL_BASE + Message.eflags]
        xor     eax, [esp + GateFrame.eflags]
        and     eax, STATUS_FLAGS
        xor     [esp + GateFrame.eflags], eax
        .event  ipc.reload slot=ebp
        mov     eax, ss:[edi + KERNEL_BASE + Message.eax]
        mov     ebx, ss:[edi + KERNEL_BASE + Message.ebx]
        mov     ecx, ss:[edi + KERNEL_BASE + Message.ecx]
        mov     edx, ss:[edi + KERNEL_BASE + Message.edx]
        mov     esi, ss:[edi + KERNEL_BASE + Message.esi]
        mov     edi, ss:[edi + KERNEL_BASE + Message.edi]
        mov     byte ptr gs:[Endpoint.state + ebp], SlotState.FREE
        lock bts dword ptr gs:[Endpoint.free], ebp
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     .rescue_direct
.released_direct:
        .event  ipc.release slot=ebp
        test    dword ptr [esp + OWN_BLOCK + ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        mov     ebp, es
        cmp     bp, [esp + GateFrame.es]
        jne     .other_segments
        mov     ebp, ds
        cmp     bp, [esp + GateFrame.ds]
        jne     .other_segments
        mov     ebp, [esp + GateFrame.ebp]
        pop     gs
        pop     fs
        add     esp, GateFrame.eflags - GateFrame.es
.loaded:
        popfd
.leaving:
        retf

.other_segments:
        mov     ebp, [esp + GateFrame.ebp]
        LEAVE_KERNEL
        add     esp, PUSHAD_SIZE
        jmp     .loaded

        ; A thread waits for a slot: see RELEASE_FAST.
.rescue_direct:
        lock btr dword ptr gs:[Endpoint.free], ebp
        jnc     .released_direct
        push    eax
        mov     eax, gs:[Endpoint.number]
        shl     eax, 16
        or      eax, ebp
        HOST    SLOT_GIVE
        pop     eax
        jmp     .released_direct
        .endm

; ANSWER_INSIDE reply, undo: the same for a client that waits for its reply within the kernel, with interrupts on: it
; finds the slot done.
;   in:        as DIRECT_REPLY leaves it
;   leaves by: switch_resume; at `reply` and `undo` as DIRECT_REPLY
        .macro ANSWER_INSIDE reply, undo
        cmp     dword ptr fs:[ThreadControlBlock.state], ThreadState.BLOCKED | WaitReason.REPLY << 16
        jne     \reply
        ANSWER  \undo

        ; Page tables are loaded here whosever they are: the server's entry for the page is in the TLB no longer.
        mov     ebx, SELECTOR_KERNEL_DATA
        mov     ds, ebx
        mov     ebx, fs:[ThreadControlBlock.cr3]
        .ledger cr3_loads
        mov     cr3, ebx
        lldt    word ptr fs:[ThreadControlBlock.ldt]
        mov     edi, gs:[Endpoint.slots + edi * 8 + SlotRecord.physical]
        mov     word ptr [edi + KERNEL_BASE + Message.reply], ReplyType.REGISTERS
        mov     byte ptr gs:[Endpoint.state + ebp], SlotState.DONE
        mov     eax, edx
        jmp     switch_resume
        .endm
