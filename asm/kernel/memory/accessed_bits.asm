; The accessed bits of page-table entries, which tell what of a file a program has looked at.

; harvest_accessed: collect and clear the accessed bits of page-table entries.
;   in:        ebx  linear address of the first entry, ecx  number of entries, not 0
;   out:       eax  how many had been accessed
;   clobbers:  ebx, ecx, flags
;   state:     ring 0, any IF; loses no bit that a CPU sets meanwhile.  TLBs may still hold the entries: an
;              access through them sets no bit until the caller has flushed them
;   leaves by: ret
harvest_accessed:
        xor     eax, eax
.next:
        lock btr dword ptr [ebx], PTE_ACCESSED_BIT
        adc     eax, 0
        add     ebx, 8
        dec     ecx
        jnz     .next
        ret
