; Sorting a directory: an array of addresses of entries, in order of names.

; Names are compared three bytes at a time: each entry gets a key, a number that holds them. Entries are sorted by their
; keys, and then those whose keys are the same by the next three bytes. So no two names are ever compared, and what
; names begin with alike, as names in a directory often do, costs one look at each.
        .set SORT_KEY, 0                ; a record: the key, the entry
        .set SORT_ENTRY, 4
        .set SORT_RECORD, 8
        .set SORT_BYTES, 3              ; of a name in a key, the first one highest; in the lowest byte how many there are,
        .set SORT_MORE, 4               ; or that the name has more of them
        .set SORT_RUN, 4 * SORT_RECORD  ; what is sorted before it is merged

; FOLD: fold the ASCII letters of four bytes.
;   in, out:   edx
;   clobbers:  eax, ecx, flags
        .macro FOLD
        ; Bit 7 of a byte is set in ECX from 'A' on and in EAX from 'Z' + 1 on, whatever its own is.
        mov     eax, edx
        and     eax, 0x7f7f7f7f
        lea     ecx, [eax + 0x3f3f3f3f]
        add     eax, 0x25252525
        or      eax, edx
        not     eax
        and     eax, ecx
        and     eax, 0x80808080
        shr     eax, 2
        or      edx, eax
        .endm

; sort_entries: sort.  Names that compare equal, letters without regard to case, keep their order.
;   in:        esi  array of DirectoryEntry addresses, ecx  how many; room for three times as many lies after them
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
sort_entries:
        lea     eax, [ecx * SORT_RECORD]
        mov     [sort_room], eax
        lea     edi, [esi + eax]
        mov     [sort_first], esi
        mov     [sort_last], edi
        mov     dword ptr [sort_depth], 0
        test    ecx, ecx
        jz      .done
.spread:
        mov     eax, [esi + ecx * 4 - 4]
        mov     [esi + ecx * SORT_RECORD - SORT_RECORD + SORT_ENTRY], eax
        dec     ecx
        jnz     .spread

        ; The records from ESI to EDI are the same up to sort_depth.
.range:
        mov     [sort_end], edi
        lea     eax, [esi + SORT_RECORD]
        cmp     eax, edi
        jae     .finished
        push    esi
        call    make_keys
        pop     esi
        mov     edi, [sort_end]
        jc      .unordered
        mov     eax, [esi + SORT_KEY]
        cmp     eax, [edi - SORT_RECORD + SORT_KEY]
        jne     .keys
        cmp     al, SORT_MORE           ; all the same
        jne     .finished
        add     dword ptr [sort_depth], SORT_BYTES
        jmp     .range
.unordered:
        push    esi
        call    sort_by_keys
        pop     esi
        mov     edi, [sort_end]
        jmp     .keys

        ; The records from ESI to EDI are in order of their keys: those with the same key come next. What lies after them
        ; waits, and in the room after the array, at the same place, it says where it ends and how deep it is.
.alone:
        mov     esi, ebx
.keys:
        mov     eax, [esi + SORT_KEY]
        mov     ebx, esi
.same:
        add     ebx, SORT_RECORD
        cmp     ebx, edi
        jae     .all
        cmp     [ebx + SORT_KEY], eax
        je      .same
        lea     ecx, [esi + SORT_RECORD]
        cmp     ecx, ebx
        je      .alone
        cmp     al, SORT_MORE
        jne     .alone
        mov     ecx, [sort_room]
        mov     edx, [sort_depth]
        mov     [ebx + ecx], edi
        mov     [ebx + ecx + 4], edx
        mov     edi, ebx
        jmp     .deeper
.all:
        cmp     al, SORT_MORE
        jne     .finished
.deeper:
        add     dword ptr [sort_depth], SORT_BYTES
        jmp     .range

        ; All up to EDI is in order. What comes next has waited.
.finished:
        cmp     edi, [sort_last]
        je      .gather
        mov     esi, edi
        mov     ecx, [sort_room]
        mov     edi, [esi + ecx]
        mov     eax, [esi + ecx + 4]
        mov     [sort_depth], eax
        jmp     .keys

.gather:
        mov     esi, [sort_first]
        mov     ebx, esi
.entry:
        mov     eax, [ebx + SORT_ENTRY]
        mov     [esi], eax
        add     ebx, SORT_RECORD
        add     esi, 4
        cmp     ebx, edi
        jb      .entry
.done:
        ret

; make_keys: make the keys of records.
;   in:        esi  first record, sort_end  after the last one, sort_depth  bytes of each name that come before
;   out:       CF=1 if the keys are not in order
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
make_keys:
        mov     ebp, [sort_depth]
        xor     ebx, ebx                ; the key before
        xor     edi, edi                ; how often a key was below the one before
.name:
        mov     edx, [esi + SORT_ENTRY]
        movzx   ecx, word ptr [edx + DirectoryEntry.name_length]
        sub     ecx, ebp
        cmp     ecx, SORT_MORE
        jb      .last
        mov     edx, [edx + ebp + DIRECTORY_NAME_OFFSET]
        FOLD
        bswap   edx
        mov     dl, SORT_MORE
.made:
        mov     [esi + SORT_KEY], edx
        cmp     edx, ebx
        mov     ebx, edx
        adc     edi, 0
        add     esi, SORT_RECORD
        cmp     esi, [sort_end]
        jb      .name
        neg     edi
        ret

        ; Three bytes or fewer: the four bytes that end with the name, of which those before it are shifted out.
.last:
        test    ecx, ecx
        jz      .none
        lea     eax, [ecx + ebp - 4]
        mov     edx, [edx + eax + DIRECTORY_NAME_OFFSET]
        push    ecx
        FOLD
        bswap   edx
        pop     eax
        mov     ecx, 4
        sub     ecx, eax
        shl     ecx, 3
        shl     edx, cl
        mov     dl, al
        jmp     .made
.none:
        xor     edx, edx
        jmp     .made

; sort_by_keys: sort records by their keys; those with the same key keep their order.
;   in:        esi  first record, edi, sort_end  after the last one, sort_room  how far away there is room for them
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
sort_by_keys:
        mov     [sort_begin], esi
        ; Runs of 4, or of 8 where the number of passes would be odd: after the last pass the records lie at their place.
        sub     edi, esi
        xor     ecx, ecx
        mov     ebp, SORT_RUN
.count:
        cmp     ebp, edi
        jae     .counted
        shl     ebp, 1
        inc     ecx
        jmp     .count
.counted:
        mov     ebp, SORT_RUN
        and     ecx, 1
        shl     ebp, cl
        mov     [sort_width], ebp

        ; Sort each run by insertion: from ESI to EDI is the run, its end in EDX.
        mov     edi, esi
.run:
        mov     ebp, edi
        add     edi, [sort_width]
        cmp     edi, [sort_end]
        jbe     .insert
        mov     edi, [sort_end]
.insert:
        lea     esi, [ebp + SORT_RECORD]
        jmp     .another
.record:
        mov     eax, [esi + SORT_KEY]
        mov     ecx, [esi + SORT_ENTRY]
        mov     ebx, esi
.shift:
        mov     edx, [ebx - SORT_RECORD + SORT_KEY]
        cmp     edx, eax
        jbe     .place
        mov     [ebx + SORT_KEY], edx
        mov     edx, [ebx - SORT_RECORD + SORT_ENTRY]
        mov     [ebx + SORT_ENTRY], edx
        sub     ebx, SORT_RECORD
        cmp     ebx, ebp
        ja      .shift
.place:
        mov     [ebx + SORT_KEY], eax
        mov     [ebx + SORT_ENTRY], ecx
        add     esi, SORT_RECORD
.another:
        cmp     esi, edi
        jb      .record
        cmp     edi, [sort_end]
        jb      .run

        ; Merge them, there and back.
        mov     esi, [sort_begin]
        mov     edi, [sort_end]
        mov     ecx, [sort_room]
.pass:
        mov     eax, edi
        sub     eax, esi
        cmp     [sort_width], eax
        jae     .sorted
        mov     [merge_end], edi
        lea     edi, [esi + ecx]
        neg     ecx
        mov     [merge_back], ecx
.pair:
        call    merge_runs
        cmp     esi, [merge_end]
        jb      .pair
        shl     dword ptr [sort_width], 1
        mov     ecx, [merge_back]       ; the next pass goes the other way
        mov     esi, [sort_begin]
        mov     edi, [sort_end]
        test    ecx, ecx
        jns     .pass
        sub     esi, ecx
        sub     edi, ecx
        jmp     .pass
.sorted:
        ret

; merge_runs: merge two runs that lie one after the other; the second one may be short or empty.
;   in:        esi  first run, edi  where the result is put, sort_width  bytes of a run, merge_end
;   out:       esi  after the runs, edi  after the result
;   clobbers:  eax, ebx, ecx, edx, ebp, flags
merge_runs:
        mov     eax, [merge_end]
        mov     ecx, [sort_width]
        lea     ebx, [esi + ecx]
        cmp     ebx, eax
        jbe     .first
        mov     ebx, eax
.first:
        lea     edx, [ebx + ecx]
        cmp     edx, eax
        jbe     .second
        mov     edx, eax
.second:
        mov     [merge_middle], ebx
        mov     [merge_stop], edx

        jmp     .some

        ; Which run the next record comes from is computed, not jumped to: a jump would be predicted wrong every other time.
.next:
        mov     eax, [esi + SORT_KEY]
        mov     edx, [ebx + SORT_KEY]
        cmp     edx, eax
        sbb     ecx, ecx                ; -1: from the second run
        mov     ebp, ebx
        xor     ebp, esi
        and     ebp, ecx
        xor     ebp, esi
        xor     edx, eax
        and     edx, ecx
        xor     eax, edx
        mov     edx, [ebp + SORT_ENTRY]
        mov     [edi + SORT_KEY], eax
        mov     [edi + SORT_ENTRY], edx
        add     edi, SORT_RECORD
        and     ecx, SORT_RECORD
        add     ebx, ecx
        xor     ecx, SORT_RECORD
        add     esi, ecx
        cmp     edi, [merge_until]
        jb      .next

        ; As many records as the shorter rest has can be taken without a look at the ends.
.some:
        mov     eax, [merge_middle]
        sub     eax, esi
        mov     ecx, [merge_stop]
        sub     ecx, ebx
        sub     ecx, eax
        sbb     edx, edx
        and     ecx, edx
        add     ecx, eax
        lea     eax, [edi + ecx]
        mov     [merge_until], eax
        jnz     .next

        ; One run is used up.
.rest:
        mov     ecx, [merge_middle]
        cmp     esi, ecx
        jb      .copy
        mov     esi, ebx
        mov     ecx, [merge_stop]
        cmp     esi, ecx
        jae     .merged
.copy:
        mov     eax, [esi + SORT_KEY]
        mov     edx, [esi + SORT_ENTRY]
        mov     [edi + SORT_KEY], eax
        mov     [edi + SORT_ENTRY], edx
        add     esi, SORT_RECORD
        add     edi, SORT_RECORD
        cmp     esi, ecx
        jb      .copy
.merged:
        mov     esi, [merge_stop]
        ret

        .bss
        .align 4
sort_first:
        .space  4
sort_last:
        .space  4
sort_room:
        .space  4
sort_end:
        .space  4
sort_depth:
        .space  4
sort_begin:
        .space  4
sort_width:
        .space  4
merge_end:
        .space  4
merge_back:
        .space  4
merge_middle:
        .space  4
merge_stop:
        .space  4
merge_until:
        .space  4
        .text
