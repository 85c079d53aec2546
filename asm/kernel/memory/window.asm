; A window on physical memory that the direct map does not reach.
;
; One page, for code that runs with interrupts off: nothing stays mapped there when they are on again.

; window_map: map a page at KERNEL_WINDOW, writable.
;   in:        edx:eax  physical address of a page; kernel_words.window_table
;   clobbers:  eax, edx, flags
;   state:     ring 0, IF=0
;   leaves by: ret
window_map:
        push    ebx
        or      eax, PTE_PRESENT | PTE_WRITABLE
        or      edx, PTE_NX_HIGH
        mov     ebx, [kernel_words + KernelWords.window_table]

        ; The entry is absent while its halves do not match: the CPU may read it at any time.
        mov     dword ptr [ebx], 0
        mov     [ebx + HIGH], edx
        .ledger pte_writes
        mov     [ebx], eax
        .ledger tlb_invalidations
        invlpg  [KERNEL_WINDOW]
        pop     ebx
        ret

; window_unmap: close the window, so that no file stays reachable by accident.
;   clobbers:  eax
;   state:     ring 0, IF=0
;   leaves by: ret
window_unmap:
        mov     eax, [kernel_words + KernelWords.window_table]
        .ledger pte_writes
        mov     dword ptr [eax], 0
        mov     dword ptr [eax + HIGH], 0
        .ledger tlb_invalidations
        invlpg  [KERNEL_WINDOW]
        ret
