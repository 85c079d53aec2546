; From words to the command that they name.

; run_words: run the command in `words`.
;   out:       eax  status
;   clobbers:  everything
run_words:
        mov     esi, [words]
        call    plain_word              ; a command has no wildcards
        call    find_command
        jne     run_program
        movzx   eax, byte ptr [ebx + Command.least]
        cmp     [word_count], eax
        jb      put_usage
        movzx   eax, byte ptr [ebx + Command.most]
        cmp     eax, MANY
        je      .run
        cmp     [word_count], eax
        ja      put_usage
.run:
        movzx   eax, byte ptr [ebx + Command.kind]
        cmp     eax, KIND_PATTERNS
        je      .go
        cmp     eax, KIND_FILES
        je      .files
        call    plain_words
        jmp     .go
.files:
        call    expand_words
        jc      .done
        movzx   eax, byte ptr [ebx + Command.most]
        cmp     eax, MANY
        je      .go
        cmp     [word_count], eax
        ja      .several
.go:
        jmp     dword ptr [ebx + Command.handler]
.several:
        mov     esi, [words + 4]
        mov     edi, several
        call    report_word
.done:
        ret

; plain_words: turn the wildcards of all words back into the characters that were typed.
;   clobbers:  ecx, esi, flags
plain_words:
        xor     ecx, ecx
.next:
        cmp     ecx, [word_count]
        jae     .done
        mov     esi, [words + ecx * 4]
        call    plain_word
        inc     ecx
        jmp     .next
.done:
        ret


        .rodata
several:
        .asciz  " is not the only name that matches"
        .text
