; The client's half of a request: take, fill, post, wait, reload, release.

; ipc_gate: one request of a ring-3 client, six registers there and back.
;   in:        ebp  volume * 65536 + Operation; eax ebx ecx edx esi edi  arguments
;   out:       eax ebx ecx edx esi edi and the arithmetic flags as the server left them, as if it were
;              local; CF=1, eax  ErrorCode on failure
;   leaves by: retf to ring 3
;   Operations that hold something in the server are the kernel's own: ring 3 reaches them by system calls.
ipc_gate:
        pushfd
        pushad
        ENTER_KERNEL
        push    KERNEL_EFLAGS
        popfd
        movzx   edi, bp
        mov     edx, ebp
        shr     edx, 16
        call    select_partition
        jc      .fail
        cmp     edi, Operation.LOCK_DIRECTORY
        jae     .private
.allowed:
        call    take_slot
        jc      .fail
        .event  ipc.take slot=ecx partition=gs

        ; Fill: the page belongs to nobody else between take and post.
        call    open_message
        mov     es:[Message.operation], edi
        mov     eax, [esp + GateFrame.eax]
        mov     ebx, [esp + GateFrame.ebx]
        mov     es:[Message.eax], eax
        mov     es:[Message.ebx], ebx
        mov     eax, [esp + GateFrame.ecx]
        mov     ebx, [esp + GateFrame.edx]
        mov     es:[Message.ecx], eax
        mov     es:[Message.edx], ebx
        mov     eax, [esp + GateFrame.esi]
        mov     ebx, [esp + GateFrame.edi]
        mov     es:[Message.esi], eax
        mov     es:[Message.edi], ebx
        .event  ipc.fill slot=ecx operation=edi
        call    post_and_wait
        jc      exit_thread

        ; Reload: nothing but registers and arithmetic flags is believed.
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
        call    release_slot
        .event  ipc.release slot=ecx
        jmp     leave_gate

.drop:
        ; The server gave pages to a client that asked for none.
        NAME_SLOT
        HOST    SLOT_DROP
        jmp     .release

.private:
        cmp     edi, OPERATION_SERVER_DEFINED
        jae     .allowed
        mov     eax, ErrorCode.BAD_CALL
.fail:
        mov     [esp + GateFrame.eax], eax
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG
        jmp     leave_gate

; select_partition: make a partition current.
;   in:        edx  index of the partition
;   out:       CF=0  gs  its selector                           CF=1  eax  ErrorCode
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
select_partition:
        mov     eax, ErrorCode.BAD_ARGUMENT
        cmp     edx, MAX_PARTITIONS
        jae     .bad
        bt      dword ptr [kernel_words + KernelWords.partitions], edx
        jnc     .bad
        lea     edx, [edx * 8 + GDT_FIRST_PARTITION * 8]
        mov     gs, edx
        clc
        ret

.bad:
        stc
        ret

; open_message: make a slot's page addressable and write what the kernel writes of its header.
;   in:        gs   partition, ecx  slot index, owned by the caller; fs  thread
;   out:       es   message page
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
open_message:
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Partition.slots + edx + SlotRecord.selector]
        mov     eax, fs:[ThreadControlBlock.selector]
        mov     gs:[Partition.slots + edx + SlotRecord.client], ax
        mov     eax, gs:[Partition.generation + ecx * 4]
        shl     eax, HANDLE_GENERATION_SHIFT
        or      eax, ecx
        mov     es:[Message.handle], eax
        xor     eax, eax
        mov     es:[Message.flags], eax
        mov     es:[Message.count], eax
        mov     es:[Message.error], eax
        ret

; post_and_wait: post a filled slot, signal a sleeping server thread, wait for the reply.
;   in:        gs   partition, ecx  slot index, fs  thread
;   out:       CF=0  replied, the page is the client's again     CF=1  killed, the slot is no longer ours
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
post_and_wait:
        .ledger requests
        lock inc dword ptr gs:[Partition.requests]
        call    post_slot
        .event  ipc.post slot=ecx
.signal:
        bsf     eax, gs:[Partition.idle]
        jz      .wait
        lock btr dword ptr gs:[Partition.idle], eax
        jnc     .signal
        movzx   eax, word ptr gs:[Partition.servers + eax * 2]
        or      eax, WaitReason.REPLY << 16
        call    handoff
.check:
        cmp     byte ptr gs:[Partition.state + ecx], SlotState.DONE
        jne     .again
        .event  ipc.wake slot=ecx
        clc
        ret

.again:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .abandon
.wait:
        mov     eax, WaitReason.REPLY
        call    block
        jmp     .check

.abandon:
        ; Whoever takes the client's selector out of the record decides: the replier, and then the reply
        ; is about to be complete; or we, and then the replier gives the slot back.
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        xor     eax, eax
        xchg    gs:[Partition.slots + edx + SlotRecord.client], ax
        test    ax, ax
        jz      .finish
        lock inc dword ptr gs:[Partition.aborted]
        .event  ipc.abandon slot=ecx
        stc
        ret

.finish:
        cmp     byte ptr gs:[Partition.state + ecx], SlotState.DONE
        je      .replied
        mov     eax, WaitReason.REPLY
        call    block
        jmp     .finish
.replied:
        clc
        ret

; ipc_request: one request made by policy on behalf of the current thread; the slot stays taken, so that
; policy can read the reply's data, until it calls ipc_finish.
;   in:        fs   thread: request_operation, request_partition (selector), request_data, request_bytes
;              eax ebx ecx edx esi edi  arguments
;   out:       eax ebx ecx edx esi edi  results
;              request_partition, slot  as they were and the slot taken; -1 = none: request_bytes holds
;              the ErrorCode, or KILLED
;   clobbers:  gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_request:
        pushad
        mov     gs, word ptr fs:[ThreadControlBlock.request_partition]
        call    take_slot
        jc      .fail
        .event  ipc.take slot=ecx partition=gs
        call    open_message
        mov     eax, fs:[ThreadControlBlock.request_operation]
        mov     es:[Message.operation], eax
        call    fill_data
        call    fill_registers
        .event  ipc.fill slot=ecx operation=eax
        call    post_and_wait
        mov     eax, ErrorCode.KILLED
        jc      .fail
        mov     fs:[ThreadControlBlock.slot], ecx
        mov     edi, esp
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

.fail:
        mov     fs:[ThreadControlBlock.request_bytes], eax
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

; fill_registers: copy the registers that PUSHAD saved above the return address into the message.
;   in:        es   message page; [esp + 4]  PushedRegisters
;   clobbers:  ebx, edx
fill_registers:
        lea     edx, [esp + 4]
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

; ipc_finish: give the slot of ipc_request back.
;   in:        fs   thread: request_partition, slot
;   clobbers:  eax, ecx, gs, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_finish:
        mov     gs, word ptr fs:[ThreadControlBlock.request_partition]
        mov     ecx, fs:[ThreadControlBlock.slot]
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        call    release_slot
        .event  ipc.release slot=ecx
        ret
