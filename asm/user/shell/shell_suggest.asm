; Suggestions: commands that an unknown word differs from by one slip, or that it begins.

; near_word: are two words one slip apart, letters in any case?  A slip is a letter too many, missing, wrong,
; or changed places with its neighbour (a Damerau-Levenshtein distance of at most 1).
;   in:        esi, edi  words
;   out:       ZF=1 if they are, or are the same
;   clobbers:  flags
near_word:
        push    eax
        push    esi
        push    edi
.same:
        mov     al, [esi]
        mov     ah, [edi]
        test    al, al
        jz      .extra_in_second
        test    ah, ah
        jz      .extra_in_first
        call    same_letter
        jne     .differ
        inc     esi
        inc     edi
        jmp     .same

        ; From here on every kind of slip is tried: an extra letter in the second word, a wrong one, two that
        ; have changed places, an extra letter in the first word.
.differ:
        inc     edi
        call    same_word
        je      .done
        inc     esi
        call    same_word
        je      .done
        mov     al, [esi - 1]
        mov     ah, [edi]
        call    same_letter
        jne     .extra
        mov     al, [esi]
        mov     ah, [edi - 1]
        call    same_letter
        jne     .extra
        push    esi
        push    edi
        inc     esi
        inc     edi
        call    same_word
        pop     edi
        pop     esi
        je      .done
.extra:
        dec     edi
        call    same_word
        jmp     .done

.extra_in_second:
        test    ah, ah
        jz      .done
        inc     edi
        call    same_word
        jmp     .done
.extra_in_first:
        inc     esi
        call    same_word
.done:
        pop     edi
        pop     esi
        pop     eax
        ret

; begins_word: does a word begin another one, letters in any case?
;   in:        esi  beginning, edi  word
;   out:       ZF=1 if it does
;   clobbers:  flags
begins_word:
        push    eax
        push    esi
        push    edi
.next:
        mov     al, [esi]
        test    al, al
        jz      .done
        mov     ah, [edi]
        call    same_letter
        jne     .done
        inc     esi
        inc     edi
        jmp     .next
.done:
        pop     edi
        pop     esi
        pop     eax
        ret

; suggest: find the one command that a word may have been meant to be.
;   in:        esi  word
;   out:       ZF=1  edi  the command's name        ZF=0  none is near, or several are
;   clobbers:  eax, ebx, ecx, edx, flags
suggest:
        mov     edx, near_word
        call    .only
        je      .done
        mov     edx, begins_word

        ; EDX decides; ECX counts, EAX is the one.
.only:
        xor     ecx, ecx
        mov     ebx, commands
.next:
        mov     edi, [ebx + Command.name]
        test    edi, edi
        jz      .counted
        call    edx
        jne     .other
        inc     ecx
        mov     eax, edi
.other:
        add     ebx, sizeof(Command)
        jmp     .next
.counted:
        mov     edi, eax
        cmp     ecx, 1
.done:
        ret

; report_unknown: say that a word is not a command, and which one it may have been meant to be.
;   in:        esi  word
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
report_unknown:
        call    put_string
        cmp     byte ptr [esi], 0
        je      .none
        call    suggest
        jne     .none
        mov     esi, did_you_mean
        call    put_string
        mov     esi, edi
        call    put_string
        mov     esi, question_mark
        jmp     put_line
.none:
        mov     esi, not_a_command
        jmp     put_line

        .rodata
did_you_mean:
        .asciz  ": no such command; did you mean "
question_mark:
        .asciz  "?"
not_a_command:
        .asciz  ": no such command or program; type help"
        .text
