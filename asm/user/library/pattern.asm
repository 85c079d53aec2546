; Names and patterns.  In a pattern two bytes that no UTF-8 text has stand for an unquoted `*` and `?`, so that
; quoted ones are letters like others.  `*.*` matches every name, as in DOS, where each had a dot.

ANY_STRING = 0xff
ANY_CHARACTER = 0xfe

; match_name: does a name match a pattern?  `?` is one character, of however many bytes.
;   in:        esi  pattern, terminated; edi, ecx  name and its bytes; match_case  0 = letters in any case
;   out:       ZF=1 if it does
;   clobbers:  flags
match_name:
        pushad
        cmp     dword ptr [esi], ANY_STRING | '.' << 8 | ANY_STRING << 16
        je      .all
        lea     ebx, [edi + ecx]
        xor     edx, edx

        ; EBX is the end of the name.  EDX is the pattern after the last `*`, 0 before there is one; EBP is
        ; where in the name that rest is being tried.  An earlier `*` need never be extended: the last one
        ; can take whatever it could.
.next:
        mov     al, [esi]
        cmp     al, ANY_STRING
        je      .star
        cmp     edi, ebx
        jae     .over
        cmp     al, ANY_CHARACTER
        je      .one
        test    al, al
        jz      .again
        mov     ah, [edi]
        cmp     al, ah
        je      .same
        cmp     byte ptr [match_case], 0
        jne     .again
        call    same_letter
        jne     .again
.same:
        inc     esi
        inc     edi
        jmp     .next
.one:
        inc     esi
        call    next_character
        jmp     .next
.star:
        inc     esi
        mov     edx, esi
        mov     ebp, edi
        jmp     .next
.again:
        test    edx, edx
        jz      .no
        mov     esi, edx
        mov     edi, ebp
        call    next_character
        mov     ebp, edi
        jmp     .next

.over:
        test    al, al
        jmp     .done
.all:
        xor     eax, eax
        jmp     .done
.no:
        or      al, 1
.done:
        popad
        ret

; next_character: go on to the next character of a name.
;   in, out:   edi  address within the name; ebx  its end
;   clobbers:  flags
next_character:
        push    eax
.next:
        inc     edi
        cmp     edi, ebx
        jae     .done
        mov     al, [edi]
        and     al, 0xc0
        cmp     al, 0x80
        je      .next
.done:
        pop     eax
        ret

; is_pattern: does a word have wildcards?
;   in:        esi  word
;   out:       ZF=1 if it has
;   clobbers:  flags
is_pattern:
        push    eax
        push    esi
.next:
        lodsb
        cmp     al, ANY_STRING
        je      .done
        cmp     al, ANY_CHARACTER
        je      .done
        test    al, al
        jnz     .next
        or      al, 1
.done:
        pop     esi
        pop     eax
        ret

; plain_word: turn wildcards back into what was typed.
;   in:        esi  word
;   clobbers:  flags
plain_word:
        push    esi
        dec     esi
.next:
        inc     esi
        cmp     byte ptr [esi], ANY_STRING
        je      .star
        cmp     byte ptr [esi], ANY_CHARACTER
        je      .one
        cmp     byte ptr [esi], 0
        jne     .next
        pop     esi
        ret
.star:
        mov     byte ptr [esi], '*'
        jmp     .next
.one:
        mov     byte ptr [esi], '?'
        jmp     .next

        .bss
match_case:
        .space  1
        .text
