; From a command to its words.

WORDS_LIMIT = 1024
WORDS_SIZE = 4096

; split_words: take one command off a line and cut it into words; quotes keep blanks and everything else.
;   in:        esi  text
;   out:       CF=0  esi  after the command and its semicolon; words, word_count, with unquoted wildcards as
;                    ANY_STRING and ANY_CHARACTER
;              CF=1  edi  what is wrong with it
;   clobbers:  eax, ecx, edx, edi, flags
split_words:
        mov     dword ptr [word_count], 0
        mov     edi, words_text
.blank:
        mov     al, [esi]
        cmp     al, ' '
        je      .skip
        cmp     al, 9
        je      .skip
        cmp     al, '#'
        je      .comment
        call    ends_command
        jz      .done
        mov     ecx, [word_count]
        cmp     ecx, WORDS_LIMIT
        jae     .long
        mov     [words + ecx * 4], edi
        inc     dword ptr [word_count]
        call    split_word
        jnc     .blank
        ret
.skip:
        inc     esi
        jmp     .blank
.comment:
        inc     esi
        cmp     byte ptr [esi], 0
        jne     .comment
.done:
        cmp     byte ptr [esi], ';'
        jne     .end
        inc     esi
.end:
        clc
        ret
.long:
        mov     edi, too_long
        stc
        ret

; split_word: take one word off a line.
;   in:        esi  text, edi  where the word is put
;   out:       CF=0  esi, edi  after it         CF=1  edi  what is wrong with it
;   clobbers:  eax, edx, flags
split_word:
        xor     edx, edx

        ; EDX is the open quote, 0 outside.
.byte:
        mov     al, [esi]
        test    al, al
        jz      .end
        test    dl, dl
        jnz     .quoted
        cmp     al, ' '
        je      .end
        cmp     al, 9
        je      .end
        cmp     al, ';'
        je      .end
        cmp     al, '"'
        je      .open
        cmp     al, 39
        je      .open
        cmp     al, '*'
        je      .star
        cmp     al, '?'
        je      .one
        cmp     al, '|'
        je      .operator
        cmp     al, '<'
        je      .operator
        cmp     al, '>'
        je      .operator
        cmp     al, '&'
        je      .operator
.keep:
        cmp     edi, words_text + WORDS_SIZE - 1
        jae     split_words.long
        stosb
        inc     esi
        jmp     .byte
.star:
        mov     al, ANY_STRING
        jmp     .keep
.one:
        mov     al, ANY_CHARACTER
        jmp     .keep
.quoted:
        cmp     al, dl
        jne     .keep
        xor     edx, edx
        inc     esi
        jmp     .byte
.open:
        mov     dl, al
        inc     esi
        jmp     .byte
.end:
        test    dl, dl
        jnz     .unclosed
        mov     byte ptr [edi], 0
        inc     edi
        ret
.operator:
        mov     edi, no_operators
        stc
        ret
.unclosed:
        mov     edi, not_closed
        stc
        ret

; ends_command: ZF=1 if AL ends a command.
ends_command:
        test    al, al
        je      .yes
        cmp     al, ';'
.yes:
        ret

        .rodata
too_long:
        .asciz  "shell: the command is too long"
no_operators:
        .ascii  "shell: | < > & are not supported: no pipes, redirection or background; use ; between commands, "
        .asciz  "or quotes"
not_closed:
        .asciz  "shell: a quote is not closed"
        .bss
        .align 4
word_count:
        .space  4
words:
        .space  WORDS_LIMIT * 4
words_text:
        .space  WORDS_SIZE + 4
        .text
