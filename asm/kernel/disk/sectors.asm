; Sector lists: sorting, searching, counting what has arrived (kernel/abi/disks/sectors.py).
;
; An entry is two dwords: the sector's lower half; and index, count, arrived flag and 4G part.  Entries of one
; part are compared by their lower dwords alone.  Nothing is allocated, and nothing is moved if the server
; named its sectors in order, which is the usual case: a file system places files in one piece if it can.

UPPER = 4                       ; from an entry's lower dword to its upper one

; sort_sectors: sort a list by sector.
;   in:        ebx  SectorList
;   out:       entries sorted, unless the thread has been killed; equal sectors in any order; every entry is still there
;   clobbers:  eax, ecx, edx, flags
;   state:     ring 0, any IF; the list is the caller's
;   leaves by: ret
;   7 instructions an entry if it is sorted already; else Shell's method with Ciura's distances, fewer than 120,000
;   for 506 entries.  A killed thread sorts no further than the entry that it inserts.
sort_sectors:
        push    esi
        push    edi
        push    ebp
        lea     esi, [ebx + SectorList.entries]
        mov     ecx, [ebx + SectorList.count]
        lea     ebp, [esi + ecx * 8]
        cmp     ecx, 2
        jb      .sorted
        cmp     word ptr [ebx + SectorList.spans], 0
        jne     .spanning

        mov     eax, [esi]
        lea     edi, [esi + 8]
.look:
        mov     edx, [edi]
        cmp     edx, eax
        jb      .unsorted
        mov     eax, edx
        add     edi, 8
        cmp     edi, ebp
        jb      .look
.sorted:
        pop     ebp
        pop     edi
        pop     esi
        ret

.spanning:
        ; The same for 64-bit sectors; ECX:EAX is the one before.
        mov     eax, [esi]
        mov     ecx, [esi + UPPER]
        and     ecx, SECTOR_PART_MASK
        lea     edi, [esi + 8]
.look_spanning:
        mov     edx, [edi + UPPER]
        and     edx, SECTOR_PART_MASK
        cmp     [edi], eax
        push    edx
        sbb     edx, ecx
        pop     ecx
        jb      .unsorted
        mov     eax, [edi]
        add     edi, 8
        cmp     edi, ebp
        jb      .look_spanning
        jmp     .sorted

.unsorted:
        push    ebx
        sub     ebp, esi
        mov     edx, shell_distances
.pass:
        mov     ecx, [edx]
        test    ecx, ecx
        jz      .done
        cmp     ecx, ebp
        jae     .skip
        push    edx
        cmp     word ptr [ebx + SectorList.spans], 0
        jne     .wide
        call    insert_by_low
        jmp     .passed
.wide:
        call    insert_by_both
.passed:
        pop     edx
.skip:
        add     edx, 4
        jmp     .pass
.done:
        pop     ebx
        jmp     .sorted

; insert_by_low, insert_by_both: one pass of insertion sort over entries that lie a distance apart, comparing
; lower dwords, or the part before them.
;   in:        esi  entries, ebp  their bytes, ecx  distance in bytes, less than EBP
;   out:       sorted by this distance, unless the thread has been killed
;   clobbers:  eax, edx, edi, flags
;   state:     as sort_sectors; FS is the thread's
;   leaves by: ret
insert_by_low:
        push    ebx
        push    ebp
        push    ecx
        mov     edi, ecx
        add     ebp, esi                ; end of the entries
        add     edi, esi                ; the entry to insert
.next:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .end
        mov     eax, [edi]
        mov     edx, [edi + UPPER]
        push    edi
.look:
        sub     edi, ecx
        cmp     edi, esi
        jb      .place
        cmp     [edi], eax
        jbe     .place
        mov     ebx, [edi]
        mov     [edi + ecx], ebx
        mov     ebx, [edi + UPPER]
        mov     [edi + ecx + UPPER], ebx
        jmp     .look
.place:
        mov     [edi + ecx], eax
        mov     [edi + ecx + UPPER], edx
        pop     edi
        add     edi, 8
        cmp     edi, ebp
        jb      .next
.end:
        pop     ecx
        pop     ebp
        pop     ebx
        ret

insert_by_both:
        push    ebx
        push    ebp
        push    ecx
        mov     edi, ecx
        add     ebp, esi
        add     edi, esi
.next:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .end
        mov     eax, [edi]
        mov     edx, [edi + UPPER]
        push    edi
.look:
        sub     edi, ecx
        cmp     edi, esi
        jb      .place
        mov     ebx, [edi + UPPER]
        xor     ebx, edx
        and     ebx, SECTOR_PART_MASK
        jnz     .parts_differ
        cmp     [edi], eax
        jbe     .place
.move:
        mov     ebx, [edi]
        mov     [edi + ecx], ebx
        mov     ebx, [edi + UPPER]
        mov     [edi + ecx + UPPER], ebx
        jmp     .look
.parts_differ:
        ; The part is the upper end of the dword, so whole dwords compare as their parts do.
        cmp     [edi + UPPER], edx
        ja      .move
.place:
        mov     [edi + ecx], eax
        mov     [edi + ecx + UPPER], edx
        pop     edi
        add     edi, 8
        cmp     edi, ebp
        jb      .next
.end:
        pop     ecx
        pop     ebp
        pop     ebx
        ret

; find_sector: the first entry at or after a sector, by bisection.
;   in:        ebx  SectorList, sorted; edx:eax  sector
;   out:       ecx  index of the entry, or count if all lie before the sector
;   clobbers:  flags
;   state:     ring 0, any IF
;   leaves by: ret
find_sector:
        push    esi
        push    edi
        push    edx
        shl     edx, SECTOR_PART_HALF_SHIFT
        xor     ecx, ecx
        mov     edi, [ebx + SectorList.count]

        ; The result lies in [ECX, EDI].
.look:
        cmp     ecx, edi
        jae     .found
        lea     esi, [ecx + edi]
        shr     esi, 1
        push    edx
        xor     edx, [ebx + SectorList.entries + esi * 8 + UPPER]
        test    edx, SECTOR_PART_MASK
        pop     edx
        jnz     .parts_differ
        cmp     [ebx + SectorList.entries + esi * 8], eax
        jae     .left
.right:
        lea     ecx, [esi + 1]
        jmp     .look
.parts_differ:
        cmp     [ebx + SectorList.entries + esi * 8 + UPPER], edx
        jb      .right
.left:
        mov     edi, esi
        jmp     .look

.found:
        pop     edx
        pop     edi
        pop     esi
        ret

; sectors_arrived: mark what a finished disk request brought.
;   in:        ebx  SectorList, sorted; edx:eax  first sector that arrived, ecx  how many
;   out:       eax  entries that have still to arrive; ZF=1 if this call brought the last of them
;   clobbers:  ecx, edx, flags
;   state:     ring 0, any IF; safe against other completions on every CPU: an entry counts once
;   leaves by: ret
sectors_arrived:
        push    esi
        push    edi
        push    ebp
        mov     ebp, ecx
        call    find_sector
        lea     esi, [ebx + SectorList.entries + ecx * 8]
        mov     edi, [ebx + SectorList.count]
        lea     edi, [ebx + SectorList.entries + edi * 8]

        ; EDX:EAX becomes the sector after the last one, as an entry's upper half holds it.
        add     eax, ebp
        adc     edx, 0
        shl     edx, SECTOR_PART_HALF_SHIFT
        xor     ebp, ebp                ; entries that arrived by this call and were the last
.next:
        cmp     esi, edi
        jae     .done
        mov     ecx, [esi + UPPER]
        and     ecx, SECTOR_PART_MASK
        cmp     ecx, edx
        ja      .done
        jb      .within
        cmp     [esi], eax
        jae     .done
.within:
        lock bts dword ptr [esi + UPPER], SECTOR_ARRIVED_BIT
        jc      .again
        mov     ecx, [ebx + SectorList.record]
        lock dec dword ptr [ecx + SpanRecord.remaining]
        jnz     .again
        inc     ebp
.again:
        add     esi, 8
        jmp     .next

.done:
        mov     eax, [ebx + SectorList.record]
        mov     eax, [eax + SpanRecord.remaining]
        cmp     ebp, 1
        pop     ebp
        pop     edi
        pop     esi
        ret

        .rodata
        .align 4
; In bytes; 0 ends them.
shell_distances:
        .long   301 * 8, 132 * 8, 57 * 8, 23 * 8, 10 * 8, 4 * 8, 8, 0
        .text
