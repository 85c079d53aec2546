; The line editor's screen: the prompt and a line that may take several rows of the terminal.
;
; With `columns` 0 the width is not known, and the line is taken for one row.  Each character is taken for one column.
; Behind the last column of a row a terminal waits for the next character before it goes on to the next row.

; redraw: show the prompt and the whole line, with the cursor in its place.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
redraw:
        mov     eax, [cursor_row]
        mov     dl, 'A'
        call    put_control
        mov     esi, to_line_start
        cmp     dword ptr [last_row], 0
        je      .clear
        mov     esi, to_rows_start
.clear:
        call    put_string
        call    line_prompt
        mov     esi, line
        mov     ecx, ebx
        call    put_bytes
        call    characters_behind
        mov     edx, ecx
        call    place_line
        test    edx, edx
        jz      .done
        cmp     dword ptr [last_row], 0
        jne     .rows

        ; From behind the last column of a row no sequence counts alike on all terminals.
        mov     eax, [columns]
        dec     eax
        cmp     [last_column], eax
        je      .rows
        mov     eax, edx
        mov     dl, 'D'
        jmp     put_control
.rows:
        mov     eax, [last_row]
        sub     eax, [cursor_row]
        mov     dl, 'A'
        call    put_control
        mov     al, 13
        call    put_character
        mov     eax, [cursor_column]
        mov     dl, 'C'
        jmp     put_control
.done:
        ret

; echo_insert: show a byte that has just been inserted before the cursor.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
echo_insert:
        cmp     dword ptr [interactive], 0
        je      place_line.done
        cmp     edi, ebx
        jne     redraw
        mov     al, [line + edi - 1]
        call    put_character

; place_line: note in which row the cursor stands and which row is the last one.
;   in:        ebx  length, edi  cursor
;   out:       cursor_row, cursor_column, last_row
;   clobbers:  eax, ecx, flags
place_line:
        cmp     dword ptr [columns], 0
        je      .done
        push    edx
        push    esi
        call    prompt_characters
        mov     esi, line
        mov     ecx, ebx
        call    count_characters
        push    eax
        call    characters_behind
        pop     eax
        mov     esi, eax
        sub     esi, ecx

        ; EAX characters in all, ESI before the cursor.  The end stands behind the last character, not in a row of its own.
        dec     eax
        xor     edx, edx
        div     dword ptr [columns]
        mov     [last_row], eax
        mov     [last_column], edx
        mov     eax, esi
        cmp     ecx, 1
        sbb     eax, 0
        xor     edx, edx
        div     dword ptr [columns]
        mov     [cursor_row], eax
        mov     [cursor_column], edx
        pop     esi
        pop     edx
.done:
        ret

; leave_line: go to the last row of the line; what is printed next begins anew.
;   clobbers:  eax, edx, flags
leave_line:
        mov     eax, [last_row]
        sub     eax, [cursor_row]
        mov     dl, 'B'
        call    put_control
        mov     dword ptr [cursor_row], 0
        mov     dword ptr [last_row], 0
        ret

; prompt_characters: how many characters the prompt has.
;   out:       eax
;   clobbers:  ecx, esi, flags
prompt_characters:
        mov     eax, PROMPT_END_SIZE
        mov     esi, directory
        cmp     dword ptr [searching], 0
        je      .count
        mov     eax, SEARCH_SIZE
        mov     esi, search_text
.count:
        call    length

; count_characters: add the number of characters of a text to EAX.
;   in:        esi  text, ecx  bytes
;   in, out:   eax
;   clobbers:  ecx, esi, flags
count_characters:
        jecxz   .done
.next:
        push    eax
        lodsb
        and     al, 0xc0
        cmp     al, 0x80
        pop     eax
        je      .inside
        inc     eax
.inside:
        loop    .next
.done:
        ret

; put_control: a control sequence of the terminal with one number; nothing for 0.
;   in:        eax  number, dl  its letter
;   clobbers:  al, flags
put_control:
        test    eax, eax
        jz      .done
        push    esi
        mov     esi, control_start
        call    put_string
        pop     esi
        call    put_number
        mov     al, dl
        call    put_character
.done:
        ret

; resize: the terminal has another width, or the line is to be shown again, because others have written to the terminal.
;   in:        parameters  8 or 9 (again), rows, columns; ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
resize:
        mov     eax, [parameters + 8]
        mov     [columns], eax
        call    place_line
        cmp     dword ptr [parameters], SHOW_AGAIN
        jne     .row
        mov     dword ptr [cursor_row], 0
.row:
        jmp     redraw

PROMPT_END_SIZE = 2             ; of `> `
SHOW_AGAIN = 9

        .rodata
to_line_start:
        .byte   13, ESCAPE
        .asciz  "[K"
to_rows_start:
        .byte   13, ESCAPE
        .asciz  "[J"
control_start:
        .byte   ESCAPE
        .asciz  "["
        .bss
        .align  4
columns:
        .space  4
cursor_row:
        .space  4
cursor_column:
        .space  4
last_row:
        .space  4
last_column:
        .space  4
        .text
