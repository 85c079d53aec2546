; Quotes for words that the parser would not read back as they are.

; quote_word: write a word so that the parser reads it back.  After a closed quote the line can be run; text typed right
; after it still belongs to the word.
;   in:        esi  word, ecx  its bytes, edi  target
;   out:       CF=0  edi  after it         CF=1  it has quotes of both kinds
;   clobbers:  eax, ecx, esi, flags
quote_word:
        call    choose_quote
        jc      .done
        test    ah, ah
        jz      .plain
        mov     al, ah
        stosb
        rep movsb
        stosb
        ret
.plain:
        rep movsb
        clc
.done:
        ret

; choose_quote: find the quote that a word needs.
;   in:        esi  word, ecx  its bytes
;   out:       CF=0  ah  the quote, 0 = none        CF=1  it has quotes of both kinds
;   clobbers:  al, flags
choose_quote:
        push    ebx
        push    ecx
        push    esi
        push    edi
        xor     ebx, ebx
        jecxz   .chosen
.next:
        lodsb
        push    ecx
        mov     edi, special_bytes
        mov     ecx, SPECIAL_BYTES
        repne scasb
        pop     ecx
        jne     .other
        or      bl, 1
        cmp     al, '"'
        jne     .single
        or      bl, 2
.single:
        cmp     al, 39
        jne     .other
        or      bl, 4
.other:
        dec     ecx
        jnz     .next
.chosen:
        mov     ah, [quotes + ebx]
        cmp     ah, 1
        je      .neither
        clc
        jmp     .done
.neither:
        stc
.done:
        pop     edi
        pop     esi
        pop     ecx
        pop     ebx
        ret

        .rodata
special_bytes:
        .byte   " ;#|<>&*?", 9, '"', 39
SPECIAL_BYTES = $ - special_bytes
; By what the word has: 1 = a special byte, 2 = a double quote, 4 = a single one; the answer 1 = neither will do.
quotes:
        .byte   0, '"', 0, 39, 0, '"', 0, 1
        .text
