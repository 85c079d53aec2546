; The line editor's screen and memory.

; drop_byte: delete the byte before the cursor.
;   in, out:   ebx  length, edi  cursor, at least 1
;   clobbers:  ecx, edx, flags
drop_byte:
        mov     ecx, edi
.next:
        cmp     ecx, ebx
        jae     .done
        mov     dl, [line + ecx]
        mov     [line + ecx - 1], dl
        inc     ecx
        jmp     .next
.done:
        dec     ebx
        dec     edi
        ret

; echo_insert: show a byte that has just been inserted before the cursor.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
echo_insert:
        cmp     dword ptr [interactive], 0
        je      .done
        cmp     edi, ebx
        jne     redraw
        mov     al, [line + edi - 1]
        call    put_character
.done:
        ret

; redraw: show the prompt and the whole line, with the cursor in its place.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
redraw:
        mov     esi, to_line_start
        call    put_string
        call    prompt
        mov     esi, line
        mov     ecx, ebx
        call    put_bytes
        call    characters_behind
        jecxz   .done
        mov     esi, cursor_back
        call    put_string
        mov     eax, ecx
        call    put_number
        mov     al, 'D'
        call    put_character
.done:
        ret

; remember: append the line to the history, unless it is empty or the same as the last one.
;   clobbers:  eax, ecx, edx, esi, edi, flags
remember:
        cmp     byte ptr [line], 0
        je      .done
        mov     eax, [history_count]
        test    eax, eax
        jz      .store
        dec     eax
        call    history_slot
        mov     edi, esi
        mov     esi, line
        call    same_word
        je      .done
.store:
        mov     eax, [history_count]
        call    history_slot
        mov     edi, esi
        mov     esi, line
        mov     ecx, LINE_SIZE
        call    copy_string
        inc     dword ptr [history_count]
.done:
        ret

; history_slot: where a line of the history is kept.
;   in:        eax  its number
;   out:       esi  address
;   clobbers:  eax, flags
history_slot:
        and     eax, HISTORY - 1
        imul    esi, eax, LINE_SIZE
        add     esi, history
        ret

; history_older: show the line before.
;   in, out:   ebx  length, edi  cursor
;   clobbers:  eax, ecx, esi, flags
history_older:
        mov     eax, [history_at]
        inc     eax
        cmp     eax, [history_count]
        ja      history_show.done
        cmp     eax, HISTORY
        ja      history_show.done
        jmp     history_show

; history_newer: show the line after; after the newest an empty one.
;   in, out, clobbers: as history_older
history_newer:
        mov     eax, [history_at]
        test    eax, eax
        jz      history_show.done
        dec     eax

; history_show: show a line of the history.
;   in:        eax  how many lines back, 0 = an empty one
;   out:       ebx  length, edi  cursor
history_show:
        mov     [history_at], eax
        mov     byte ptr [line], 0
        test    eax, eax
        jz      .shown
        neg     eax
        add     eax, [history_count]
        call    history_slot
        mov     edi, line
        mov     ecx, LINE_SIZE
        call    copy_string
.shown:
        mov     esi, line
        call    length
        mov     ebx, ecx
        mov     edi, ecx
.done:
        ret

        .rodata
to_line_start:
        .byte   13, ESCAPE
        .asciz  "[K"
cursor_back:
        .byte   ESCAPE
        .asciz  "["
        .bss
        .align 4
history_count:
        .space  4
history_at:
        .space  4
history:
        .space  HISTORY * LINE_SIZE
        .text
