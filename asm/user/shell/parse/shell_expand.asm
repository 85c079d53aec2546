; Wildcards: the last part of a path stands for every name in its directory that matches.

EXPANDED_SIZE = 64 << 10

; expand_words: put the names that match in the place of every word with wildcards.
;   out:       CF=0  words, word_count        CF=1  eax  STATUS_FAILED; the error has been reported
;   clobbers:  eax, ecx, edx, esi, edi, ebp, flags
expand_words:
        push    ebx
        mov     dword ptr [expanded_count], 0
        mov     dword ptr [expanded_end], expanded_text
        xor     ebp, ebp
.word:
        cmp     ebp, [word_count]
        jae     .take
        mov     esi, [words + ebp * 4]
        call    is_pattern
        je      .pattern
        call    add_word
        jc      .full
        jmp     .next
.pattern:
        call    expand_pattern
        jc      .done
.next:
        inc     ebp
        jmp     .word
.take:
        mov     ecx, [expanded_count]
        mov     [word_count], ecx
        mov     esi, expanded
        mov     edi, words
        rep movsd
        clc
        jmp     .done
.full:
        mov     edi, too_many_names
        call    report_word
        stc
.done:
        pop     ebx
        ret

; expand_pattern: append the names that match a word with wildcards.
;   in:        esi  word
;   out:       CF=1  eax  STATUS_FAILED; the error has been reported
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
expand_pattern:
        mov     [named], esi
        call    open_pattern
        jc      .done
        call    filter_entries
        xor     ebx, ebx
.next:
        cmp     ebx, [entry_count]
        jae     .all
        mov     eax, [entries]
        mov     edi, [eax + ebx * 4]
        call    add_name
        jc      .full
        inc     ebx
        jmp     .next
.all:
        push    ebx
        call    free_directory
        pop     ebx
        mov     esi, [named]
        test    ebx, ebx
        jnz     .done
        call    report_no_match
        stc
.done:
        ret
.full:
        call    free_directory
        mov     esi, [named]
        mov     edi, too_many_names
        call    report_word
        stc
        ret

; add_name: append `prefix` and an entry's name as a word.
;   in:        edi  DirectoryEntry
;   out:       CF=1  there is no room
;   clobbers:  eax, ecx, edx, esi, edi, flags
add_name:
        movzx   edx, word ptr [edi + DirectoryEntry.name_length]
        lea     eax, [edi + DIRECTORY_NAME_OFFSET]
        mov     esi, prefix
        call    length
        mov     edi, [expanded_end]
        push    edi
        add     edi, ecx
        add     edi, edx
        cmp     edi, expanded_text + EXPANDED_SIZE - 1
        pop     edi
        ja      no_room
        push    edi
        rep movsb
        mov     esi, eax
        mov     ecx, edx
        rep movsb
        mov     byte ptr [edi], 0
        inc     edi
        mov     [expanded_end], edi
        pop     esi

; add_word: append a word.
;   in:        esi  word
;   out:       CF=1  there is no room
;   clobbers:  eax, flags
add_word:
        mov     eax, [expanded_count]
        cmp     eax, WORDS_LIMIT
        jae     no_room
        mov     [expanded + eax * 4], esi
        inc     dword ptr [expanded_count]
        clc
        ret
no_room:
        stc
        ret

        .rodata
too_many_names:
        .asciz  ": too many names; at most 1024, 64 KiB in all"
        .bss
        .align  4
expanded_count:
        .space  4
expanded_end:
        .space  4
expanded:
        .space  WORDS_LIMIT * 4
expanded_text:
        .space  EXPANDED_SIZE
        .text
