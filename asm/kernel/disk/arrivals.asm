; From the disk to the threads that wait for file data, without the server and without policy for every block.

; lists_arrived: a disk request has ended; count in every sector list that waits for this disk the sectors that it
; brought.
;   in:        ebx  DiskRequest
;   out:       FILE_READY is called for each list that waits for nothing more
;   clobbers:  flags
;   state:     IF=0; DS and ES flat
;   leaves by: ret
lists_arrived:
        cmp     dword ptr [kernel_words + KernelWords.sector_lists], 0
        jne     .some
        ret

.some:
        pushad
        mov     esi, ebx
        mov     ebx, [kernel_words + KernelWords.sector_lists]
        jmp     .first
.next:
        mov     edi, [ebx + SectorList.next]
        mov     ax, [esi + DiskRequest.disk]
        cmp     ax, [ebx + SectorList.disk]
        jne     .other
        mov     eax, [esi + DiskRequest.lba]
        mov     edx, [esi + DiskRequest.lba + 4]
        mov     ecx, [esi + DiskRequest.sectors]
        call    sectors_arrived
        jne     .other
        mov     eax, [ebx + SectorList.record]
        mov     eax, [eax + SpanRecord.token]
        .event  file.ready request=eax
        HOST    FILE_READY
.other:
        mov     ebx, edi
.first:
        ; The chain may have become empty since it was read: its last list was removed with a server that died.
        test    ebx, ebx
        jnz     .next
        popad
        ret
