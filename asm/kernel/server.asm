; The server's half: fetch, map, back to ring 3; then reply, unmap, convert, wake, and the next one.

; server_gate: the gate that serves servers (LDT of server processes only).
;   in:        eax  ServerCall, ebx  message handle for replies
;   out:       WAIT and replies: ebx  linear address of the next request's message page
;              CF=1, eax  ErrorCode on failure
;   leaves by: retf to ring 3
server_gate:
        pushfd
        pushad
        ENTER_KERNEL
        push    KERNEL_EFLAGS
        popfd
        .ledger server_gates
        mov     gs, word ptr fs:[ThreadControlBlock.partition]
        cmp     eax, ServerCall.REPLY_SECTORS
        ja      .policy
        test    eax, eax
        jz      wait_request

        ; The handle must name a slot that this very thread was given and has not answered yet.
        movzx   ecx, bl
        shr     ebx, HANDLE_GENERATION_SHIFT
        cmp     ecx, SLOTS
        jae     .bad
        cmp     ebx, gs:[Partition.generation + ecx * 4]
        jne     .bad
        cmp     byte ptr gs:[Partition.state + ecx], SlotState.SERVED
        jne     .bad
        mov     edx, fs:[ThreadControlBlock.selector]
        cmp     gs:[Partition.server_of + ecx * 2], dx
        jne     .bad
        jmp     reply

.policy:
        mov     fs:[ThreadControlBlock.frame], esp
        POLICY  SERVER
        jmp     leave_gate

.bad:
        .event  ipc.bad_reply slot=ecx call=eax
        lock inc dword ptr gs:[Partition.bad_replies]
        mov     dword ptr [esp + GateFrame.eax], ErrorCode.BAD_HANDLE
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG
        jmp     leave_gate

; reply: answer the request in slot ECX, then wait for the next one.
;   in:        gs   partition, fs  thread, ecx  slot index, served by this thread, eax  reply type
;   leaves by: serve
reply:
        ; The page leaves the server before a byte of it is read: entry not present, no TLB entry left.
        .event  ipc.reply slot=ecx type=eax
        mov     ebx, gs:[Partition.window_table]
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        .ledger pte_writes
        mov     dword ptr [ebx + ecx * 8], 0
        xor     ebx, ebx
        xchg    gs:[Partition.slots + edx + SlotRecord.linear], ebx
        .ledger tlb_invalidations
        invlpg  [ebx]
        .event  ipc.unmap slot=ecx linear=ebx

        ; Registers need no conversion; everything else is bounded or translated by policy.
        mov     es, word ptr gs:[Partition.slots + edx + SlotRecord.selector]
        mov     es:[Message.reply], ax
        cmp     eax, ReplyType.REGISTERS
        jne     .convert
.complete:
        lock inc dword ptr gs:[Partition.replies]
        call    complete_slot
        mov     ebx, eax
        jmp     next_request

.convert:
        NAME_SLOT
        POLICY  CONVERT
        .event  ipc.convert slot=ecx
        cmp     dword ptr fs:[ThreadControlBlock.arg0], 0
        je      .complete

        ; The disk has still to fill pages of this reply, and will wake the client itself.
        lock inc dword ptr gs:[Partition.replies]
        xor     ebx, ebx
        jmp     next_request

; complete_slot: hand a slot back to its client.
;   in:        gs   partition, ecx  slot index
;   out:       eax  selector of the thread to wake; 0 = the client is gone and the slot has been released
;   clobbers:  edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
complete_slot:
        inc     dword ptr gs:[Partition.generation + ecx * 4]
        and     dword ptr gs:[Partition.generation + ecx * 4], HANDLE_GENERATION_MASK
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        xor     eax, eax
        xchg    gs:[Partition.slots + edx + SlotRecord.client], ax
        test    eax, eax
        jz      .orphan
        mov     byte ptr gs:[Partition.state + ecx], SlotState.DONE
        ret

.orphan:
        NAME_SLOT
        HOST    SLOT_DROP
        call    release_slot
        xor     eax, eax
        ret

; wait_request: a server thread without a client to wake.
wait_request:
        xor     ebx, ebx

; next_request: take the next request, waking the last one's client on the way.
;   in:        gs   partition, fs  thread, ebx  selector of the client to wake or 0, [esp]  GateFrame
;   leaves by: serve, with a request
next_request:
        mov     eax, gs:[Partition.head]
        cmp     eax, gs:[Partition.tail]
        je      .empty
        call    fetch_slot
        jnc     .wake

.empty:
        ; Announce the sleep, then look again: whoever posts after the announcement signals us.
        mov     eax, fs:[ThreadControlBlock.server_index]
        lock bts dword ptr gs:[Partition.idle], eax
        call    fetch_slot
        jnc     .withdraw
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .die
        mov     eax, WaitReason.REQUEST
        test    ebx, ebx
        jz      .sleep
        shl     eax, 16
        or      eax, ebx
        call    handoff
        jmp     wait_request

.sleep:
        call    block
        jmp     wait_request

.die:
        ; The client of the last request must not be lost with us.
        test    ebx, ebx
        jz      exit_thread
        mov     eax, ebx
        HOST    WAKE
        jmp     exit_thread

.withdraw:
        ; If a poster has taken our bit already, its signal only makes our next sleep return at once.
        mov     eax, fs:[ThreadControlBlock.server_index]
        lock btr dword ptr gs:[Partition.idle], eax
.wake:
        test    ebx, ebx
        jz      serve
        mov     eax, ebx
        HOST    WAKE
        cmp     dword ptr [kernel_words + KernelWords.arm_timer], 0
        je      serve
        call    timer_arm

; serve: map the request's page at the server's linear address and return to ring 3 with it.
;   in:        gs   partition, fs  thread, ecx  slot index, [esp]  GateFrame
;   leaves by: leave_gate
serve:
        .event  ipc.fetch slot=ecx
        mov     byte ptr gs:[Partition.state + ecx], SlotState.SERVED
        mov     eax, fs:[ThreadControlBlock.selector]
        mov     gs:[Partition.server_of + ecx * 2], ax
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT

        ; High half first: the entry is not present until the low half is written.
        mov     ebx, gs:[Partition.window_table]
        mov     eax, gs:[Partition.slots + edx + SlotRecord.physical + 4]
        or      eax, PTE_NX_HIGH
        mov     [ebx + ecx * 8 + 4], eax
        mov     eax, gs:[Partition.slots + edx + SlotRecord.physical]
        or      eax, PTE_PRESENT | PTE_WRITABLE | PTE_USER
        .ledger pte_writes
        mov     [ebx + ecx * 8], eax
        mov     ebx, ecx
        shl     ebx, PAGE_SHIFT
        add     ebx, gs:[Partition.window_base]
        mov     gs:[Partition.slots + edx + SlotRecord.linear], ebx
        .event  ipc.map slot=ecx linear=ebx
        mov     [esp + GateFrame.ebx], ebx
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        jmp     leave_gate
