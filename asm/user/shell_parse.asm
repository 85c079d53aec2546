; From a line to commands to words.

WORDS_LIMIT = 32
WORDS_SIZE = 4096

; run_line: run the commands of a line, separated by semicolons.
;   in:        esi  line, terminated
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
run_line:
        call    split_words
        push    esi
        jc      .long
        cmp     dword ptr [word_count], 0
        je      .next
        call    run_words
        mov     [status], eax
        call    flush
.next:
        pop     esi
        cmp     byte ptr [esi], 0
        jne     run_line
        ret
.long:
        mov     esi, too_long
        call    put_line
        mov     dword ptr [status], STATUS_USAGE
        call    flush
        jmp     .next

; split_words: take one command off a line and cut it into words; quotes keep blanks and semicolons.
;   in:        esi  text
;   out:       esi  behind the command and its semicolon; words, word_count
;              CF=1  too many words, or too long: the command is skipped
;   clobbers:  eax, ebx, ecx, edx, edi, flags
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
        jae     .overflow
        mov     [words + ecx * 4], edi
        inc     dword ptr [word_count]
        xor     edx, edx

        ; EDX is the open quote, 0 outside.
.byte:
        mov     al, [esi]
        test    al, al
        jz      .word
        test    dl, dl
        jnz     .quoted
        cmp     al, ';'
        je      .word
        cmp     al, ' '
        je      .word
        cmp     al, 9
        je      .word
        cmp     al, '"'
        je      .open
        cmp     al, 39
        je      .open
.keep:
        cmp     edi, words_text + WORDS_SIZE - 1
        jae     .overflow
        stosb
        inc     esi
        jmp     .byte
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
.word:
        mov     byte ptr [edi], 0
        inc     edi
        jmp     .blank
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
.overflow:
        inc     esi
        mov     al, [esi]
        call    ends_command
        jnz     .overflow
        cmp     byte ptr [esi], ';'
        jne     .failed
        inc     esi
.failed:
        stc
        ret

; ends_command: ZF=1 if AL ends a command.
ends_command:
        test    al, al
        je      .yes
        cmp     al, ';'
.yes:
        ret

; run_words: run the command in `words`.
;   out:       eax  status
;   clobbers:  everything
run_words:
        mov     ebx, commands
.next:
        mov     edi, [ebx]
        test    edi, edi
        jz      run_program
        mov     esi, [words]
        call    same_word
        je      .found
        add     ebx, COMMAND_SIZE
        jmp     .next
.found:
        jmp     dword ptr [ebx + 4]

        .rodata
too_long:
        .asciz  "shell: the command is too long"
        .bss
        .align 4
word_count:
        .space  4
words:
        .space  WORDS_LIMIT * 4
words_text:
        .space  WORDS_SIZE + 4
        .text
