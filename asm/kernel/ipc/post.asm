; Requests of policy's own, whose replies no thread takes: READs of file data, deferred releases.  A token in the
; endpoint says which of them a slot holds.  `reply` reports the answer to policy by one host call, REPLIED; a request
; that the server will never answer ends when policy fails its slot.

; FILL_POSTED: fill the header of slot ECX's page, all but `count`; ES = the page, EAX = the operation.
; In: EBP = PushedRegisters, the arguments.  Clobbers EBX, EDX and flags.
        .macro FILL_POSTED
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        mov     eax, ecx
        shl     eax, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + eax + SlotRecord.selector]
        mov     word ptr gs:[Endpoint.slots + eax + SlotRecord.client], 0
        mov     eax, gs:[Endpoint.handles + ecx * 4]
        mov     es:[Message.handle], eax
        mov     dword ptr es:[Message.flags], MessageFlags.POSTED
        mov     edx, ebp
        call    fill_registers
        mov     eax, fs:[ThreadControlBlock.request_operation]
        mov     es:[Message.operation], eax
        .event  ipc.fill slot=ecx operation=eax
        .endm

; POST_FILLED: append slot ECX, whose page is filled, to the ring.  Clobbers EAX, EDX and flags.
        .macro POST_FILLED
        .ledger requests
        POST
        .event  ipc.post slot=ecx
        .endm

; ipc_post: take a slot for a request, fill it, post it, and signal a sleeping server thread.
; ipc_post_and_wait: the same, and wait until this thread is woken; it is listed among the waiters already.
;   in:        fs   thread: request_endpoint (selector), request_operation, request_token
;              eax ebx ecx edx esi edi  arguments
;   out:       CF=0  posted.  ipc_post_and_wait may return at once (the thread was woken, killed or interrupted
;                    before it slept, or the server has died): test your condition, and wait for it by `block`
;              CF=1  eax  ErrorCode, no slot, nothing posted
;   clobbers:  eax, ebx, ecx, edx, gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_post:
        pushad
        call    take_and_fill
        jc      .none
        POST_FILLED
        call    signal_server
.posted:
        popad
        clc
        ret

.none:
        mov     [esp + PushedRegisters.eax], eax
        popad
        stc
        ret

ipc_post_and_wait:
        pushad
        call    take_and_fill
        jc      ipc_post.none
.filled:
        mov     eax, ThreadState.BLOCKED | WaitReason.FILE << 16
        call    hand_over_request
        jnc     ipc_post.posted
        POST_FILLED

        ; From here on an interrupt or a kill is remembered until `handoff`; an earlier one shows in the flags.
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED
        jnz     .signal
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jnz     .signal
        lock inc dword ptr gs:[Endpoint.blocking_waits]
        call    sleeping_server
        test    eax, eax
        jz      .block
        call    handoff_for_file
        jmp     ipc_post.posted
.block:
        mov     eax, WaitReason.FILE
        call    block
        jmp     ipc_post.posted
.signal:
        call    signal_server
        jmp     ipc_post.posted

; ipc_post_slot: fill and post a slot that policy owns and has put a token in, and signal a sleeping server thread.
; ipc_post_batch: the same, and request_bytes of data that policy has written into the page are sent.
;   in:        fs   thread: request_endpoint, request_operation, slot
;              eax ebx ecx edx esi edi  arguments
;   clobbers:  gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_post_slot:
        pushad
        mov     ebp, esp
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        mov     ecx, fs:[ThreadControlBlock.slot]
        FILL_POSTED
        mov     dword ptr es:[Message.count], 0
        POST_FILLED
        call    signal_server
        popad
        ret

ipc_post_batch:
        pushad
        mov     ebp, esp
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        mov     ecx, fs:[ThreadControlBlock.slot]
        FILL_POSTED
        mov     word ptr es:[Message.flags], MessageFlags.POSTED | MessageFlags.DATA
        mov     edx, fs:[ThreadControlBlock.request_bytes]
        mov     es:[Message.count], edx
        POST_FILLED
        call    signal_server
        popad
        ret

; take_and_fill: take a slot, set its token and fill its page.
;   in:        fs   thread, as ipc_post; [esp + 4]  PushedRegisters, the arguments
;   out:       CF=0  gs  endpoint, ecx  slot index                CF=1  eax  ErrorCode, no slot
;   clobbers:  eax, ebx, ecx, edx, ebp, gs, es, flags
take_and_fill:
        lea     ebp, [esp + 4]
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        call    take_slot
        jc      .none
        .event  ipc.take slot=ecx endpoint=gs
        mov     eax, fs:[ThreadControlBlock.request_token]
        mov     gs:[Endpoint.tokens + ecx * 4], eax
        FILL_POSTED
        mov     dword ptr es:[Message.count], 0
        clc
.none:
        ret

; signal_server: wake a sleeping server thread, if there is one, without waiting.
;   in:        gs   endpoint, ecx  slot index, posted
;   clobbers:  eax, gs, es, flags
signal_server:
        ; A server that died before the post will never see the request.
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jnz     .dead
        call    sleeping_server
        test    eax, eax
        jnz     wake
        ret

.dead:
        NAME_SLOT
        HOST    SLOT_FAIL
        ret

; sleeping_server: choose a server thread that sleeps; the caller wakes it.
;   in:        gs   endpoint
;   out:       eax  selector of the thread, 0 = all are awake
;   clobbers:  flags
;   state:     ring 0, any IF; safe against every other caller on every CPU
sleeping_server:
        bsf     eax, gs:[Endpoint.idle]
        jz      .none
        lock btr dword ptr gs:[Endpoint.idle], eax
        jnc     sleeping_server
        movzx   eax, word ptr gs:[Endpoint.servers + eax * 2]
        ret
.none:
        xor     eax, eax
        ret
