; The client's half of a request: take, fill, post, wait, reload, release.

; ipc_gate: one request of a ring-3 client; six registers travel in each direction.
;   in:        ebp  volume * 65536 + Operation; eax ebx ecx edx esi edi  arguments
;   out:       eax ebx ecx edx esi edi and the arithmetic flags as the server left them, as if it were
;              local; CF=1, eax  ErrorCode on failure
;   leaves by: retf to ring 3
;   Operations that have the server hold something are reserved for the kernel: ring 3 reaches them by system calls.
ipc_gate:
        .frame  gate
        pushfd
        pushad
        ENTER_BRIEFLY

        ; EAX, EBX, EDX, ESI and EDI keep the caller's values until they are in the page.
        .ledger client_gates
        cmp     bp, Operation.LOCK_DIRECTORY
        jae     .private
.allowed:
        shr     ebp, 16
        cmp     ebp, MAX_ENDPOINTS
        jae     .no_endpoint
        lea     ebp, [ebp * 8 + GDT_FIRST_ENDPOINT * 8]
        mov     gs, ebp
        TAKE_FAST .take
.taken:
        .event  ipc.take slot=ecx endpoint=gs

        ; Fill: between take and post the page is ours alone.  EBP goes through SS, as the kernel's words do.
        lea     ebp, [ecx + ecx]
        mov     ebp, gs:[Endpoint.slots + ebp * 8 + SlotRecord.physical]
        mov     [ebp + KERNEL_BASE + Message.eax], eax
        mov     [ebp + KERNEL_BASE + Message.ebx], ebx
        mov     [ebp + KERNEL_BASE + Message.edx], edx
        mov     [ebp + KERNEL_BASE + Message.esi], esi
        mov     [ebp + KERNEL_BASE + Message.edi], edi
        mov     ebx, gs:[Endpoint.handles + ecx * 4]
        mov     [ebp + KERNEL_BASE + Message.handle], ebx
        mov     eax, [esp + GateFrame.ecx]
        mov     [ebp + KERNEL_BASE + Message.ecx], eax
        movzx   ebx, word ptr [esp + GateFrame.ebp]
        mov     [ebp + KERNEL_BASE + Message.operation], ebx
        mov     dword ptr [ebp + KERNEL_BASE + Message.flags], 0
        .event  ipc.fill slot=ecx operation=ebx
        DIRECT_REQUEST .post, .undo

        ; Post, and hand the CPU to a sleeping server thread.
.undo:
        mov     fs, word ptr ss:[kernel_words + KernelWords.current]
        UNDO_WAIT
.post:
        ENTER_FULLY eax
        lea     edx, [ecx + ecx]
        mov     gs:[Endpoint.slots + edx * 8 + SlotRecord.client], fs
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jnz     .dead
        .ledger requests
        POST
        .event  ipc.post slot=ecx
.posted:
        bsf     eax, gs:[Endpoint.idle]
        jz      .wait
        lock btr dword ptr gs:[Endpoint.idle], eax
        jnc     .wait_signal
        movzx   eax, word ptr gs:[Endpoint.servers + eax * 2]
        mov     ebp, gs
        call    handoff_for_reply
        mov     gs, ebp
        cmp     byte ptr gs:[Endpoint.state + ecx], SlotState.DONE
        jne     .again
.done:
        .event  ipc.wake slot=ecx

        ; Reload: only registers and arithmetic flags are taken from the page.
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + edx + SlotRecord.selector]
        mov     eax, es:[Message.eax]
        mov     ebx, es:[Message.ebx]
        mov     [esp + GateFrame.eax], eax
        mov     [esp + GateFrame.ebx], ebx
        mov     eax, es:[Message.ecx]
        mov     ebx, es:[Message.edx]
        mov     [esp + GateFrame.ecx], eax
        mov     [esp + GateFrame.edx], ebx
        mov     eax, es:[Message.esi]
        mov     ebx, es:[Message.edi]
        mov     [esp + GateFrame.esi], eax
        mov     [esp + GateFrame.edi], ebx
        mov     eax, es:[Message.eflags]
        xor     eax, [esp + GateFrame.eflags]
        and     eax, STATUS_FLAGS
        xor     [esp + GateFrame.eflags], eax
        .event  ipc.reload slot=ecx
        cmp     word ptr es:[Message.reply], ReplyType.REGISTERS
        jne     .drop
.release:
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.FREE
        RELEASE_FAST .give, .give_back
.released:
        .event  ipc.release slot=ecx
        jmp     leave_gate

.take:
        ; No endpoint has this number if its descriptor leads to `no_endpoint`, where a thread seems to wait for a slot.
        ENTER_FULLY eax
        movzx   eax, word ptr [esp + GateFrame.ebp + 2]
        bt      dword ptr [kernel_words + KernelWords.endpoints], eax
        mov     eax, ErrorCode.BAD_ARGUMENT
        jnc     .fail
        call    take_slot
        jc      .fail
        cli
        mov     eax, [esp + GateFrame.eax]
        jmp     .taken
.wait_signal:
        call    signal_and_wait
        jmp     .woken
.wait:
        call    wait_for_reply
        jmp     .woken
.again:
        call    check_reply
.woken:
        jnc     .done
        mov     eax, ErrorCode.INTERRUPTED
        jmp     .fail
.give_back:
        lock btr dword ptr gs:[Endpoint.free], ecx
        jnc     .released
.give:
        NAME_SLOT
        HOST    SLOT_GIVE
        jmp     .released
.drop:
        ; The server sent pages, which this client cannot take.
        NAME_SLOT
        HOST    SLOT_DROP
        jmp     .release

.private:
        cmp     bp, OPERATION_SERVER_DEFINED
        jae     .allowed
        cmp     bp, Operation.BATCH
        je      ipc_batch
        mov     ebx, ErrorCode.BAD_CALL
        jmp     .refuse
.dead:
        call    release_slot
        .event  ipc.release slot=ecx
        mov     eax, ErrorCode.SERVER_DIED
        jmp     .fail
.no_endpoint:
        mov     ebx, ErrorCode.BAD_ARGUMENT
.refuse:
        ENTER_FULLY eax
        mov     eax, ebx
.fail:
        mov     [esp + GateFrame.eax], eax
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG
        jmp     leave_gate

; resume_call: a client that has switched to the server directly goes on in another way: its reply did not come straight
; back, or it has been killed or interrupted.
;   in:        ecx  slot index, fs  thread, [esp]  GateFrame
resume_call:
        .frame  like ipc_gate.post
        movzx   ebp, word ptr [esp + GateFrame.ebp + 2]
        lea     ebp, [ebp * 8 + GDT_FIRST_ENDPOINT * 8]
        mov     gs, ebp
        cmp     byte ptr gs:[Endpoint.state + ecx], SlotState.DONE
        jne     ipc_gate.again
        jmp     ipc_gate.done

; post_and_wait: hand a request over, or post it and signal a sleeping server thread, and wait for the reply.
; signal_and_wait: signal a sleeping server thread, if there is one, and wait for the reply.
; wait_for_reply: wait, because every server thread is awake already.
; check_reply: wait, unless the reply has come already.
;   in:        gs   endpoint, ecx  slot index, filled for post_and_wait, else posted; fs  thread
;   out:       CF=0  replied, the page is the client's again     CF=1  killed or interrupted, the slot is no longer ours
;   clobbers:  eax, edx, es, flags; post_and_wait ebx, too
;   state:     ring 0, any IF
;   leaves by: ret
post_and_wait:
        mov     eax, ThreadState.BLOCKED | WaitReason.REPLY << 16
        push    gs
        call    hand_over_request
        pop     gs
        jnc     check_reply
        .ledger requests
        call    post_slot
        .event  ipc.post slot=ecx

signal_and_wait:
        bsf     eax, gs:[Endpoint.idle]
        jz      wait_for_reply
        lock btr dword ptr gs:[Endpoint.idle], eax
        jnc     signal_and_wait
        movzx   eax, word ptr gs:[Endpoint.servers + eax * 2]
        push    gs
        call    handoff_for_reply
        pop     gs

check_reply:
        cmp     byte ptr gs:[Endpoint.state + ecx], SlotState.DONE
        je      reply_there
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED
        jnz     abandon_request
wait_for_reply:
        ; If the server died after our test, nothing else will notice this request: look again.  The flag is set before
        ; `sweep` looks at the slots; we post, by a locked instruction, before we look at the flag: one sees the other.
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jz      .wait
        NAME_SLOT
        HOST    SLOT_FAIL
.wait:
        mov     eax, WaitReason.REPLY
        push    gs
        call    block
        pop     gs
        jmp     check_reply

reply_there:
        clc
        ret

abandon_request:
        ; The thread that takes the client's selector out of the record decides: if it is the replier, the reply
        ; is about to be complete; if it is this one, the replier releases the slot.
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        xor     eax, eax
        xchg    gs:[Endpoint.slots + edx + SlotRecord.client], ax
        test    ax, ax
        jz      finish_reply
        lock inc dword ptr gs:[Endpoint.aborted]
        lock and dword ptr fs:[ThreadControlBlock.flags], ~ThreadFlags.INTERRUPTED
        .event  ipc.abandon slot=ecx
        stc
        ret

; finish_reply: wait for a reply that a server thread is just completing.
finish_reply:
        cmp     byte ptr gs:[Endpoint.state + ecx], SlotState.DONE
        je      .replied
        mov     eax, WaitReason.REPLY
        push    gs
        call    block
        pop     gs
        jmp     finish_reply
.replied:
        clc
        ret

; ipc_request: one request made by policy on behalf of the current thread; the slot stays taken, so that
; policy can read the reply's data, until it calls ipc_finish.
;   in:        fs   thread: request_operation, request_endpoint (selector), request_data, request_bytes
;              eax ebx ecx edx esi edi  arguments
;   out:       eax ebx ecx edx esi edi  results
;              request_endpoint  unchanged; slot  the slot taken, -1 = none: slot_error holds the
;              ErrorCode; SLOT_ABANDONED = killed or interrupted, and the server still has
;              the request
;   clobbers:  gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_request:
        pushad
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        call    take_slot
        jc      .fail
        .event  ipc.take slot=ecx endpoint=gs
        mov     eax, ecx
        shl     eax, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + eax + SlotRecord.selector]
        mov     gs:[Endpoint.slots + eax + SlotRecord.client], fs
        mov     eax, gs:[Endpoint.handles + ecx * 4]
        mov     es:[Message.handle], eax
        mov     dword ptr es:[Message.flags], 0
        call    fill_data
        mov     edx, esp
        call    fill_registers
        mov     eax, fs:[ThreadControlBlock.request_operation]
        mov     es:[Message.operation], eax
        .event  ipc.fill slot=ecx operation=eax
        call    post_and_wait
        jc      .abandoned
        .event  ipc.wake slot=ecx
        mov     fs:[ThreadControlBlock.slot], ecx
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + edx + SlotRecord.selector]
        .event  ipc.reload slot=ecx
        add     esp, PUSHAD_SIZE
        mov     eax, es:[Message.eax]
        mov     ebx, es:[Message.ebx]
        mov     ecx, es:[Message.ecx]
        mov     edx, es:[Message.edx]
        mov     esi, es:[Message.esi]
        mov     edi, es:[Message.edi]
        push    dword ptr es:[Message.eflags]
        and     dword ptr [esp], STATUS_FLAGS
        or      dword ptr [esp], KERNEL_EFLAGS
        popfd
        ret

.abandoned:
        mov     dword ptr fs:[ThreadControlBlock.slot], SLOT_ABANDONED
        popad
        stc
        ret

.fail:
        mov     fs:[ThreadControlBlock.slot_error], eax
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        popad
        stc
        ret

; fill_data: copy the request's data into the message.
;   in:        es   message page, fs  thread
;   clobbers:  eax, edx, flags
fill_data:
        mov     eax, fs:[ThreadControlBlock.request_bytes]
        mov     es:[Message.count], eax
        test    eax, eax
        jz      .none
        push    ecx
        push    esi
        push    edi
        mov     word ptr es:[Message.flags], MessageFlags.DATA
        mov     ecx, eax
        mov     esi, fs:[ThreadControlBlock.request_data]
        mov     edi, Message.data
        rep     movsb
        pop     edi
        pop     esi
        pop     ecx
.none:
        ret

; fill_registers: copy registers that PUSHAD has saved into the message.
;   in:        es   message page; edx  PushedRegisters
;   clobbers:  ebx
fill_registers:
        mov     ebx, [edx + PushedRegisters.eax]
        mov     es:[Message.eax], ebx
        mov     ebx, [edx + PushedRegisters.ebx]
        mov     es:[Message.ebx], ebx
        mov     ebx, [edx + PushedRegisters.ecx]
        mov     es:[Message.ecx], ebx
        mov     ebx, [edx + PushedRegisters.edx]
        mov     es:[Message.edx], ebx
        mov     ebx, [edx + PushedRegisters.esi]
        mov     es:[Message.esi], ebx
        mov     ebx, [edx + PushedRegisters.edi]
        mov     es:[Message.edi], ebx
        ret

; ipc_finish: release the slot of ipc_request.
;   in:        fs   thread: request_endpoint, slot
;   clobbers:  eax, ecx, gs, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_finish:
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        mov     ecx, fs:[ThreadControlBlock.slot]
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        call    release_slot
        .event  ipc.release slot=ecx
        ret
