; From a line to commands.

; run_line: run the commands of a line, separated by semicolons.  A line that cannot be understood is not run
; from there on.
;   in:        esi  line, terminated
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
run_line:
        call    split_words
        jc      .bad
        push    esi
        cmp     dword ptr [word_count], 0
        je      .next
        call    run_words
        mov     [status], eax
        call    flush
        call    ask_break
        jnz     .broken
.next:
        pop     esi
        cmp     byte ptr [esi], 0
        jne     run_line
        ret
.broken:
        pop     esi
        jmp     show_break
.bad:
        mov     esi, edi
        call    put_line
        mov     dword ptr [status], STATUS_USAGE
        jmp     flush
