; Sorting a directory: an array of addresses of entries, in order of names.

; sort_entries: sort by merging runs of 1, 2, 4 … entries.  Names that compare equal keep their order.
;   in:        esi  array of DirectoryEntry addresses, ecx  how many; room for as many again lies after them
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
sort_entries:
        mov     [merge_source], esi
        lea     edi, [esi + ecx * 4]
        mov     [merge_target], edi
        shl     ecx, 2
        mov     [merge_bytes], ecx
        mov     ebp, 4                  ; bytes of a run
.pass:
        cmp     ebp, [merge_bytes]
        jae     .sorted
        mov     esi, [merge_source]
        mov     edi, [merge_target]
        mov     eax, esi
        add     eax, [merge_bytes]
        mov     [merge_end], eax
.runs:
        call    merge_runs
        cmp     esi, [merge_end]
        jb      .runs
        mov     eax, [merge_source]
        xchg    eax, [merge_target]
        mov     [merge_source], eax
        shl     ebp, 1
        jmp     .pass

.sorted:
        ; After an odd number of passes the result lies in the room after the array.
        mov     esi, [merge_source]
        mov     edi, [merge_target]
        cmp     edi, esi
        ja      .done
        mov     ecx, [merge_bytes]
        shr     ecx, 2
        rep     movsd
.done:
        ret

; merge_runs: merge two runs that lie one after the other; the second one may be short or empty.
;   in:        esi  first run, edi  where the result is put, ebp  bytes of a run, merge_end
;   out:       esi  after the runs, edi  after the result
;   clobbers:  eax, ebx, ecx, edx, flags
merge_runs:
        mov     eax, [merge_end]
        lea     ebx, [esi + ebp]
        cmp     ebx, eax
        jbe     .first
        mov     ebx, eax
.first:
        lea     edx, [ebx + ebp]
        cmp     edx, eax
        jbe     .second
        mov     edx, eax
.second:
        mov     [merge_middle], ebx
        mov     [merge_stop], edx
        cmp     ebx, edx
        je      .first_rest

        ; In order already: most directories are, and then a pass is a comparison and a copy a run.
        push    esi
        lea     esi, [ebx - 4]
        call    second_before_first
        pop     esi
        jc      .merge
        mov     [merge_middle], edx
        jmp     .first_rest

.merge:
        call    second_before_first
        jc      .from_second
        movsd
        cmp     esi, [merge_middle]
        jb      .merge
        mov     esi, ebx
        mov     ecx, [merge_stop]
        jmp     .copy
.from_second:
        mov     eax, [ebx]
        stosd
        add     ebx, 4
        cmp     ebx, [merge_stop]
        jb      .merge
.first_rest:
        mov     ecx, [merge_middle]
.copy:
        sub     ecx, esi
        shr     ecx, 2
        rep     movsd
        mov     esi, [merge_stop]
        ret

; second_before_first: compare the names of two entries.
;   in:        esi, ebx  where the addresses of the first and the second entry are
;   out:       CF=1 if the second one comes before the first
;   clobbers:  eax, ecx, flags
second_before_first:
        push    edx
        push    esi
        push    edi
        mov     edi, [esi]
        mov     esi, [ebx]
        movzx   edx, word ptr [edi + DirectoryEntry.name_length]
        movzx   ecx, word ptr [esi + DirectoryEntry.name_length]
        add     edi, DIRECTORY_NAME_OFFSET
        add     esi, DIRECTORY_NAME_OFFSET
        call    compare_bytes
        pop     edi
        pop     esi
        pop     edx
        ret

        .bss
        .align 4
merge_source:
        .space  4
merge_target:
        .space  4
merge_bytes:
        .space  4
merge_end:
        .space  4
merge_middle:
        .space  4
merge_stop:
        .space  4
        .text
