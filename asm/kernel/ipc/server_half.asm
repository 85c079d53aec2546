; The server's half of a request: fetch, map, return to ring 3; then reply, unmap, convert, wake, fetch the next one.

; COMPLETE orphan: hand slot ECX with the reply to its client; the handle becomes invalid.  If the record names no
; client (the request is policy's own, or a dying client was faster), the slot is ours: jump to `orphan`.
; In: EDX = offset of the slot record.  Out: EBX = selector of the client.  Clobbers flags.
        .macro COMPLETE orphan
        lock inc dword ptr gs:[Endpoint.replies]
        add     dword ptr gs:[Endpoint.handles + ecx * 4], 1 << HANDLE_GENERATION_SHIFT
        mov     word ptr gs:[Endpoint.server_of + ecx * 2], 0
        xor     ebx, ebx
        xchg    gs:[Endpoint.slots + edx + SlotRecord.client], bx
        test    ebx, ebx
        jz      \orphan
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.DONE
        .endm

; server_gate: the gate of servers (in the LDT of server processes only).
;   in:        eax  ServerCall, ebx  message handle for replies
;              eax + SERVER_CALL_NO_WAIT for WAIT and replies: do not wait for the next request
;   out:       WAIT and replies: ebx  linear address of the next request's message page; 0 = none, NO_WAIT only
;              CF=1, eax  ErrorCode on failure
;   leaves by: retf to ring 3
server_gate:
        .frame  gate
        pushfd
        pushad
        ENTER_BRIEFLY
        .ledger server_gates
        mov     gs, word ptr [esp + OWN_BLOCK + ThreadControlBlock.endpoint]
        cmp     eax, ServerCall.REPLY_REGISTERS
        jne     .general
        DIRECT_REPLY .late, .undo

.inside:
        ANSWER_INSIDE .late, .undo
.undo:
        lock btr dword ptr gs:[Endpoint.idle], ecx
        mov     fs, word ptr ss:[kernel_words + KernelWords.current]
        UNDO_WAIT
.late:
        mov     eax, ServerCall.REPLY_REGISTERS
.general:
        ENTER_FULLY edx
        lea     edx, [eax - SERVER_REPLY_FIRST]
        cmp     edx, SERVER_REPLY_LAST - SERVER_REPLY_FIRST
        ja      .other
.reply:
        ; The handle must name a slot that this thread was given and has not answered yet.
        movzx   ecx, bl
        cmp     ecx, SLOTS
        jae     .bad
        cmp     ebx, gs:[Endpoint.handles + ecx * 4]
        jne     .bad
        mov     edx, fs
        cmp     gs:[Endpoint.server_of + ecx * 2], dx
        je      reply
        jmp     .bad

.other:
        test    eax, eax
        jz      wait_request
        cmp     eax, ServerCall.WAIT | SERVER_CALL_NO_WAIT
        je      .poll
        lea     edx, [eax - (SERVER_REPLY_FIRST | SERVER_CALL_NO_WAIT)]
        cmp     edx, SERVER_REPLY_LAST - SERVER_REPLY_FIRST
        jbe     .reply
        mov     ecx, SELECTOR_KERNEL_DATA
        mov     es, ecx
        mov     fs:[ThreadControlBlock.frame], esp
        POLICY  SERVER
        jmp     leave_gate

.poll:
        call    fetch_slot
        jnc     serve
        jmp     return_nothing

.bad:
        .event  ipc.bad_reply slot=ecx call=eax
        lock inc dword ptr gs:[Endpoint.bad_replies]
        mov     dword ptr [esp + GateFrame.eax], ErrorCode.BAD_HANDLE
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG
        jmp     leave_gate

; reply: answer the request in slot ECX, then wait for the next one.
;   in:        gs   endpoint, fs  thread, ecx  slot index, served by this thread, eax  reply type
;   leaves by: serve
reply:
        ; Unmap the page from the server before reading a byte of it: entry not present, no TLB entry left.
        .event  ipc.reply slot=ecx type=eax
        mov     ebx, gs:[Endpoint.window_table]
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
        .ledger pte_writes
        mov     dword ptr [ebx + ecx * 8], 0
        mov     ebx, gs:[Endpoint.slots + edx + SlotRecord.linear]
        .ledger tlb_invalidations
        invlpg  [ebx]
        .event  ipc.unmap slot=ecx

        ; Registers need no conversion; policy checks or translates all other replies.
        mov     es, word ptr gs:[Endpoint.slots + edx + SlotRecord.selector]
        mov     es:[Message.reply], ax
        cmp     eax, ReplyType.REGISTERS
        jne     .convert
        COMPLETE .orphan
        jmp     next_request

.convert:
        ; A reply that does not wait for the next request comes here too, whatever its type.
        movzx   eax, al
        mov     es:[Message.reply], ax
        cmp     eax, ReplyType.REGISTERS
        je      .complete
        cmp     dword ptr gs:[Endpoint.tokens + ecx * 4], 0
        jne     .complete
        NAME_SLOT
        HOST    CONVERT
        .event  ipc.convert slot=ecx
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT
.complete:
        COMPLETE .orphan
        jmp     .sent

.orphan:
        ; No client takes the reply: the request was policy's own, or its client has abandoned it.
        NAME_SLOT
        cmp     dword ptr gs:[Endpoint.tokens + ecx * 4], 0
        je      .drop
        POLICY  REPLIED
        .event  ipc.replied slot=ecx
        jmp     .dropped
.drop:
        HOST    SLOT_DROP
.dropped:
        .event  ipc.release slot=ecx
        call    release_slot
.sent:
        test    dword ptr [esp + GateFrame.eax], SERVER_CALL_NO_WAIT
        jz      next_request
        test    ebx, ebx
        jz      return_nothing
        mov     eax, ebx
        call    wake

; return_nothing: return to a server that does not want to wait for a request.
;   in:        [esp]  GateFrame
;   leaves by: leave_gate
return_nothing:
        mov     dword ptr [esp + GateFrame.ebx], 0
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        jmp     leave_gate

; wait_request: take the next request; there is no client to wake.
wait_request:
        xor     ebx, ebx

; next_request: wake the last request's client and take the next request.
;   in:        gs   endpoint, fs  thread, ebx  selector of the client to wake or 0, [esp]  GateFrame
;   leaves by: serve, with a request
next_request:
        mov     eax, gs:[Endpoint.head]
        cmp     eax, gs:[Endpoint.tail]
        je      .empty
        call    fetch_slot
        jnc     .wake

.empty:
        ; Announce the sleep, then look again: a client that posts after the announcement signals us.
        mov     eax, fs:[ThreadControlBlock.server_index]
        lock bts dword ptr gs:[Endpoint.idle], eax
        mov     eax, gs:[Endpoint.head]
        cmp     eax, gs:[Endpoint.tail]
        jne     .look
.sleep:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .die
        test    ebx, ebx
        jz      .block
        mov     eax, ebx
        call    handoff_for_request
.woken:
        ; Usually there is a request now; if not, look whether to sleep again.
        mov     gs, word ptr fs:[ThreadControlBlock.endpoint]
        call    fetch_slot
        jnc     serve
        jmp     wait_request

.block:
        mov     eax, WaitReason.REQUEST
        call    block
        jmp     .woken

.look:
        call    fetch_slot
        jc      .sleep

        ; If a client has cleared our bit already, its signal only makes our next sleep return at once.
        mov     eax, fs:[ThreadControlBlock.server_index]
        lock btr dword ptr gs:[Endpoint.idle], eax
.wake:
        test    ebx, ebx
        jz      serve
        mov     eax, ebx
        call    wake
        mov     gs, word ptr fs:[ThreadControlBlock.endpoint]
        jmp     serve

.die:
        ; Wake the client of the last request before this thread ends.
        test    ebx, ebx
        jz      exit_thread
        mov     eax, ebx
        HOST    WAKE
        jmp     exit_thread

; serve: map the request's page at the server's linear address and return to ring 3 with it.
;   in:        gs   endpoint, fs  thread, ecx  slot index, [esp]  GateFrame
;   leaves by: leave_gate
serve:
        .event  ipc.fetch slot=ecx
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.SERVED
        mov     gs:[Endpoint.server_of + ecx * 2], fs
        mov     edx, ecx
        shl     edx, SLOT_RECORD_SHIFT

        ; The entry's high half was written when the slot was first used, and stays.
        mov     ebx, gs:[Endpoint.window_table]
        mov     eax, gs:[Endpoint.slots + edx + SlotRecord.physical]
        or      eax, MESSAGE_PAGE_BITS
        .ledger pte_writes
        mov     [ebx + ecx * 8], eax
        mov     ebx, gs:[Endpoint.slots + edx + SlotRecord.linear]
        .event  ipc.map slot=ecx linear=ebx
        mov     [esp + GateFrame.ebx], ebx
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        jmp     leave_gate
