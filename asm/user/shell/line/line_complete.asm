; The Tab key: complete the word at the cursor; a second time, show what it may become.

BELL = 7

; complete_word: extend the word at the cursor as far as all completions agree.
;   in, out:   ebx  length of the line, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
complete_word:
        mov     [edit_length], ebx
        mov     [edit_cursor], edi
        call    find_word
        jc      .bell
        mov     dword ptr [found], 0
        mov     dword ptr [visitor], note_name
        call    visit_names
        mov     eax, [found]
        test    eax, eax
        jz      .bell
        cmp     eax, 1
        je      .take
        mov     esi, [part]
        call    length
        cmp     ecx, [common_bytes]
        jae     .ambiguous
        mov     dword ptr [tab_again], 1
.take:
        call    take_word
        jc      .bell
        jmp     .redraw

.ambiguous:
        cmp     dword ptr [tab_again], 0
        mov     dword ptr [tab_again], 1
        je      .bell
        call    leave_line
        call    newline
        call    ask_to_show
        jne     .redraw
        mov     dword ptr [column], 0
        mov     eax, [columns]
        cmp     eax, ROW_MARGIN + 1
        jae     .width
        mov     eax, ROW_WIDTH + ROW_MARGIN
.width:
        sub     eax, ROW_MARGIN
        mov     [row_width], eax
        mov     dword ptr [visitor], show_name
        call    visit_names
        call    newline
.redraw:
        mov     ebx, [edit_length]
        mov     edi, [edit_cursor]
        jmp     redraw
.bell:
        mov     ebx, [edit_length]
        mov     edi, [edit_cursor]
        mov     al, BELL
        jmp     put_character

; ask_to_show: ask whether many names are to be shown.
;   in:        found
;   out:       ZF=1 if they are
;   clobbers:  eax, ecx, edx, esi, flags
ask_to_show:
        mov     eax, [found]
        cmp     eax, MANY_NAMES
        jbe     .yes
        mov     esi, show_begin
        call    put_string
        call    put_number
        mov     esi, show_end
        call    put_string
        call    flush
        SYSTEM  READ_CHARACTER
        jc      .no
        call    newline
        cmp     al, 'y'
        je      .done
        cmp     al, 'Y'
        je      .done
        cmp     al, ' '
.done:
        ret
.yes:
        cmp     eax, eax
        ret
.no:
        or      eax, 1
        ret

MANY_NAMES = 100

; take_word: put `common` in the place of the part of the word that it completes; the only name is followed by a slash
; for a directory, by a blank otherwise.
;   in, out:   line, edit_length, edit_cursor; part, common, found
;   out:       CF=1  it cannot be quoted, or does not fit: nothing has changed
;   clobbers:  eax, ecx, edx, esi, edi, flags
take_word:
        mov     edi, [part]
        mov     ecx, [common_bytes]
        lea     eax, [edi + ecx]
        cmp     eax, typed + PATH_SIZE
        ja      .refused
        mov     esi, common
        rep movsb
        mov     edx, edi
        sub     edx, typed

        ; The text before the word, the word, the text after the cursor.
        mov     edi, new_line
        mov     esi, line
        mov     ecx, [word_start]
        rep movsb
        mov     esi, typed
        mov     ecx, edx
        call    quote_word
        jc      .done
        cmp     dword ptr [found], 1
        jne     .rest
        mov     al, ' '
        cmp     dword ptr [found_directory], 0
        je      .end
        mov     al, '/'
.end:
        stosb
.rest:
        mov     edx, edi
        sub     edx, new_line
        mov     esi, [edit_cursor]
        mov     ecx, [edit_length]
        sub     ecx, esi
        add     esi, line
        rep movsb

        mov     ecx, edi
        sub     ecx, new_line
        cmp     ecx, LINE_SIZE
        jae     .refused
        mov     [edit_length], ecx
        mov     [edit_cursor], edx
        mov     esi, new_line
        mov     edi, line
        rep movsb
        clc
        ret
.refused:
        stc
.done:
        ret

        .rodata
show_begin:
        .asciz  "show all "
show_end:
        .asciz  " names? (y or n)"
        .bss
        .align  4
edit_length:
        .space  4
edit_cursor:
        .space  4
tab_again:
        .space  4
new_line:
        .space  2 * LINE_SIZE + PATH_SIZE + 4
        .text
