; Requests that nobody waits for: file data.  The server answers with sectors, the disk answers the client.

; ipc_take: take a slot for a request that policy will post.
;   in:        fs   thread: request_endpoint (selector)
;   out:       CF=0  ecx  slot index          CF=1  eax  ErrorCode, no slot
;   clobbers:  eax, edx, gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_take:
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        call    take_slot
        jc      .none
        .event  ipc.take slot=ecx endpoint=gs
.none:
        ret

; ipc_post: fill and post the slot that ipc_take took, signal a server thread, and do not wait.
;   in:        fs   thread: request_endpoint, request_operation, slot
;              eax ebx ecx edx esi edi  arguments
;   out:       the slot is the server's; policy hears of the reply by CONVERT, or by SLOT_DROP if it is registers alone
;   clobbers:  eax, ebx, ecx, edx, gs, es, flags
;   state:     ring 0, any IF
;   leaves by: ret
ipc_post:
        pushad
        mov     gs, word ptr fs:[ThreadControlBlock.request_endpoint]
        mov     ecx, fs:[ThreadControlBlock.slot]
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        mov     eax, ecx
        shl     eax, SLOT_RECORD_SHIFT
        mov     es, word ptr gs:[Endpoint.slots + eax + SlotRecord.selector]
        mov     word ptr gs:[Endpoint.slots + eax + SlotRecord.client], 0
        lock bts dword ptr gs:[Endpoint.posted], ecx
        mov     eax, gs:[Endpoint.handles + ecx * 4]
        mov     es:[Message.handle], eax
        mov     eax, fs:[ThreadControlBlock.request_operation]
        mov     es:[Message.operation], eax
        mov     dword ptr es:[Message.flags], MessageFlags.POSTED
        mov     dword ptr es:[Message.count], 0
        call    fill_registers
        .event  ipc.fill slot=ecx operation=eax
        .ledger requests
        call    post_slot
        .event  ipc.post slot=ecx

        ; A server that died before this was posted will never see it.
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jnz     .dead
.signal:
        bsf     eax, gs:[Endpoint.idle]
        jz      .done
        lock btr dword ptr gs:[Endpoint.idle], eax
        jnc     .signal
        movzx   eax, word ptr gs:[Endpoint.servers + eax * 2]
        call    wake
.done:
        popad
        ret

.dead:
        NAME_SLOT
        HOST    SLOT_FAIL
        jmp     .done
