; Batches: several requests of a client to one server, in one message.  The entries travel in the data part of the page, there
; and back; the server's runtime serves one after the other and replies once.  So a batch takes one slot and is posted,
; abandoned, failed and released like a single request.

; ipc_batch: where ipc_gate goes with Operation.BATCH.
;   in:        [esp]  GateFrame: ebp  volume * 65536 + Operation.BATCH, esi  address of BatchEntry records, ecx  their number
;              fs  thread; DS and ES the caller's, IF=0
;   out:       eax  entries answered, each of which holds the registers and flags of its reply
;              CF=1, eax  ErrorCode: no entry has been changed, unless their memory was unmapped meanwhile
;   leaves by: leave_gate
ipc_batch:
        .frame  like ipc_gate.private
        ENTER_FULLY eax
        mov     edx, [esp + GateFrame.ecx]
        mov     eax, ErrorCode.BAD_ARGUMENT
        lea     ecx, [edx - 1]
        cmp     ecx, BATCH_ENTRIES
        jae     .fail
        movzx   ebx, word ptr [esp + GateFrame.ebp + 2]
        cmp     ebx, MAX_ENDPOINTS
        jae     .fail
        bt      dword ptr [kernel_words + KernelWords.endpoints], ebx
        jnc     .fail
        mov     esi, [esp + GateFrame.esi]
        call    copy_entries
        jc      .fail
        lea     ebx, [ebx * 8 + GDT_FIRST_ENDPOINT * 8]
        mov     gs, ebx
        call    take_slot
        jc      .fail
        .event  ipc.take slot=ecx endpoint=gs

        ; Fill.
        mov     ebp, ecx
        shl     ebp, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + ebp + SlotRecord.selector]
        mov     gs:[Endpoint.slots + ebp + SlotRecord.client], fs
        mov     eax, gs:[Endpoint.handles + ecx * 4]
        mov     es:[Message.handle], eax
        mov     dword ptr es:[Message.operation], Operation.BATCH
        mov     dword ptr es:[Message.flags], MessageFlags.DATA
        lea     edx, [esp + GateFrame.edi]
        call    fill_registers
        mov     edx, [esp + GateFrame.ecx]
        mov     eax, edx
        shl     eax, BATCH_ENTRY_SHIFT
        mov     es:[Message.count], eax
        mov     esi, fs:[ThreadControlBlock.path_page]
        mov     edi, Message.data
        mov     ebx, ecx
.entry:
        .ledger batched_requests
        mov     ecx, sizeof(BatchEntry) / 4
        rep     movsd
        dec     edx
        jnz     .entry
        mov     ecx, ebx
        .event  ipc.fill slot=ecx operation=Operation.BATCH

        call    post_and_wait
        mov     eax, ErrorCode.INTERRUPTED
        jc      .fail
        .event  ipc.wake slot=ecx

        ; Reload: registers and arithmetic flags of as many entries as the client has made, whatever the server says.
        mov     edx, gs:[Endpoint.slots + ebp + SlotRecord.physical]
        add     edx, KERNEL_BASE
        .event  ipc.reload slot=ecx
        cmp     word ptr [edx + Message.reply], ReplyType.REGISTERS
        jne     .drop
        mov     ebx, [edx + Message.eax]
        test    byte ptr [edx + Message.eflags], CARRY_FLAG
        jnz     .refused
        lea     esi, [edx + Message.data]
        mov     edi, fs:[ThreadControlBlock.path_page]
        push    ds
        pop     es
        mov     ebx, ecx
        mov     edx, [esp + GateFrame.ecx]
.answer:
        add     esi, BatchEntry.eax
        add     edi, BatchEntry.eax
        mov     ecx, (BatchEntry.eflags - BatchEntry.eax) / 4
        rep     movsd
        lodsd
        and     eax, STATUS_FLAGS
        stosd
        dec     edx
        jnz     .answer
        mov     ecx, ebx
        call    release_slot
        .event  ipc.release slot=ecx

        ; No slot is held now: the caller's memory may have to be waited for.
        mov     esi, fs:[ThreadControlBlock.path_page]
        mov     edi, [esp + GateFrame.esi]
        mov     ecx, [esp + GateFrame.ecx]
        mov     [esp + GateFrame.eax], ecx
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        shl     ecx, BATCH_ENTRY_SHIFT - 2
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], .lost
        rep     movsd
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        jmp     leave_gate

.lost:
        .frame  like ipc_batch.entry
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        mov     eax, fs:[ThreadControlBlock.fault_error]
        jmp     .fail
.drop:
        ; A batch is answered by REPLY_REGISTERS.
        mov     ebx, ErrorCode.BAD_REPLY
        NAME_SLOT
        HOST    SLOT_DROP
.refused:
        call    release_slot
        .event  ipc.release slot=ecx
        mov     eax, ebx
.fail:
        mov     [esp + GateFrame.eax], eax
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG
        jmp     leave_gate

; copy_entries: copy the entries of a batch into the thread's page for paths, where their operations are checked.
;   in:        fs   thread; esi  address in ring 3, edx  entries, 1 to BATCH_ENTRIES
;   out:       CF=0  path_page holds the entries                CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, esi, edi, flags
;   state:     ring 0, any IF; DS and ES flat
;   leaves by: ret
copy_entries:
        ; No wrap: the entries are few, so the sum cannot pass 4 GiB unless ESI is in kernel space already.
        mov     eax, ErrorCode.BAD_ADDRESS
        mov     ecx, edx
        shl     ecx, BATCH_ENTRY_SHIFT
        cmp     esi, USER_END
        jae     .fail
        lea     edi, [esi + ecx]
        cmp     edi, USER_END
        ja      .fail
        mov     edi, fs:[ThreadControlBlock.path_page]
        shr     ecx, 2
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], .fault
        rep     movsd

        ; Two stores say whether the results can be written; entries lie in two pages at most.
        mov     eax, [edi - 4]
        mov     [esi - 4], eax
        mov     ecx, edx
        shl     ecx, BATCH_ENTRY_SHIFT
        sub     esi, ecx
        sub     edi, ecx
        mov     eax, [edi]
        mov     [esi], eax
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
.check:
        mov     eax, [edi + BatchEntry.operation]
        cmp     eax, Operation.LOCK_DIRECTORY
        jb      .allowed
        cmp     eax, OPERATION_SERVER_DEFINED
        jb      .private
.allowed:
        add     edi, sizeof(BatchEntry)
        dec     edx
        jnz     .check
        clc
        ret

.private:
        mov     eax, ErrorCode.BAD_CALL
.fail:
        stc
        ret

.fault:
        .frame  like copy_entries.check
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        mov     eax, fs:[ThreadControlBlock.fault_error]
        stc
        ret
