; The word at the cursor, as the parser would read it.

; find_word: read the line up to the cursor.
;   in:        edi  cursor
;   out:       CF=0  typed  the last word without its quotes; word_start  where it begins in the line;
;                    wants_command  non-zero: a command is expected there
;              CF=1  the word is too long to be a path
;   clobbers:  eax, ebx, ecx, edx, esi, flags
find_word:
        push    edi
        lea     ebx, [line + edi]
        mov     esi, line
        mov     dword ptr [wants_command], 1
        xor     ecx, ecx
        xor     edx, edx
        mov     [word_start], esi

        ; ECX bytes of the word so far; EDX is the open quote, 0 outside.
.next:
        mov     byte ptr [typed + ecx], 0
        cmp     esi, ebx
        jae     .done
        lodsb
        test    dl, dl
        jnz     .quoted
        cmp     al, ';'
        je      .command
        cmp     al, ' '
        je      .blank
        cmp     al, 9
        je      .blank
        cmp     al, '"'
        je      .open
        cmp     al, 39
        je      .open
.keep:
        mov     [typed + ecx], al
        inc     ecx
        cmp     ecx, PATH_SIZE - 1
        jb      .next
        stc
        jmp     .return
.quoted:
        cmp     al, dl
        jne     .keep
        xor     edx, edx
        jmp     .next
.open:
        mov     dl, al
        jmp     .next
.command:
        mov     dword ptr [wants_command], 1
        jmp     .new
.blank:
        jecxz   .new
        call    takes_command
.new:
        mov     [word_start], esi
        xor     ecx, ecx
        jmp     .next
.done:
        sub     dword ptr [word_start], line
        clc
.return:
        pop     edi
        ret

; takes_command: does another command follow the word in `typed`?
;   out:       wants_command
;   clobbers:  edi, flags
takes_command:
        push    esi
        cmp     dword ptr [wants_command], 0
        je      .done
        mov     esi, typed
        mov     edi, word_time
        call    same_word
        je      .done
        mov     edi, word_help
        call    same_word
        je      .done
        mov     dword ptr [wants_command], 0
.done:
        pop     esi
        ret

        .bss
        .align  4
word_start:
        .space  4
wants_command:
        .space  4
typed:
        .space  PATH_SIZE
        .text
