; Batches for user programs: several requests to one server, and one wait for all of them.

; request_batch: make the requests of an array of BatchEntry records, in their order.  A server that knows no batches is
; asked one by one.
;   in:        ebp  volume * 65536, esi  address of the records, ecx  their number, 1 to BATCH_ENTRIES
;   out:       CF=0  eax  their number; each record holds the registers and flags of its reply: BatchEntry.eflags has CARRY_FLAG if it failed
;              CF=1  eax  ErrorCode: no record has been changed, unless a page of them could not be written to at the end
;   clobbers:  eax, flags
request_batch:
        push    ebp
        mov     bp, Operation.BATCH
        call    SELECTOR_IPC_GATE:0
        pop     ebp
        jc      .failed
        ret

.failed:
        cmp     eax, ErrorCode.BAD_CALL
        jne     .end
        pushad
        mov     edi, ecx
.next:
        call    request_entry
        add     esi, sizeof(BatchEntry)
        dec     edi
        jnz     .next
        popad
        mov     eax, ecx
        clc
        ret
.end:
        stc
        ret

; request_entry: make the request of one BatchEntry record by itself.
;   in:        ebp  volume * 65536, esi  address of the record
;   clobbers:  eax, ebx, ecx, edx, flags
request_entry:
        push    ebp
        push    edi
        push    esi
        mov     eax, [esi + BatchEntry.operation]
        mov     ebx, ErrorCode.BAD_CALL
        cmp     eax, 0xffff
        ja      .refused
        or      ebp, eax
        mov     eax, [esi + BatchEntry.eax]
        mov     ebx, [esi + BatchEntry.ebx]
        mov     ecx, [esi + BatchEntry.ecx]
        mov     edx, [esi + BatchEntry.edx]
        mov     edi, [esi + BatchEntry.edi]
        mov     esi, [esi + BatchEntry.esi]
        call    SELECTOR_IPC_GATE:0
        mov     ebp, [esp]
        mov     [ebp + BatchEntry.eax], eax
        mov     [ebp + BatchEntry.ebx], ebx
        mov     [ebp + BatchEntry.ecx], ecx
        mov     [ebp + BatchEntry.edx], edx
        mov     [ebp + BatchEntry.esi], esi
        mov     [ebp + BatchEntry.edi], edi
        pushfd
        pop     eax
        and     eax, BATCH_FLAGS
        mov     [ebp + BatchEntry.eflags], eax
.end:
        pop     esi
        pop     edi
        pop     ebp
        ret

.refused:
        mov     [esi + BatchEntry.eax], ebx
        mov     dword ptr [esi + BatchEntry.eflags], 1
        jmp     .end

; The arithmetic flags: CF PF AF ZF SF OF.
BATCH_FLAGS = 0x8d5
