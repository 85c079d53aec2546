; The line editor's screen: the prompt and a line that may take several rows of the terminal.
;
; With `columns` 0 the width is not known, and the line is taken for one row.  After the last column of a row a terminal
; waits for the next character before it moves to the next row; it moves a wide character for which a row has no room.

; redraw: show the prompt and the whole line, with the cursor in its place.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
redraw:
        mov     dword ptr [held_bytes], 0
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
        call    put_shown
        call    place_line
        cmp     edi, ebx
        je      .done
        cmp     dword ptr [last_row], 0
        jne     .rows

        ; After the last column of a row, terminals differ in how they count cursor movements.
        mov     eax, [last_column]
        cmp     eax, [columns]
        je      .rows
        sub     eax, [cursor_column]
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
        cmp     eax, [columns]
        jne     .column
        dec     eax                     ; before a mark that joins the last character of a full row
.column:
        mov     dl, 'C'
        jmp     put_control
.done:
        ret

; echo_insert: show a byte that has just been inserted before the cursor, when its character is whole.
;   in:        ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
echo_insert:
        cmp     dword ptr [interactive], 0
        je      .done
        lea     esi, [line + edi]
        xor     ecx, ecx
.back:
        dec     esi
        inc     ecx
        mov     al, [esi]
        and     al, 0xc0
        cmp     al, 0x80
        jne     .begin
        cmp     ecx, UTF8_LIMIT
        jae     .begin
        cmp     esi, line
        ja      .back
.begin:
        call    decode_character
        jc      .held
        cmp     edi, ebx
        jne     redraw

        ; A character that is shown otherwise than it was typed, or that ends an incomplete one, needs the line redrawn.
        call    is_shown
        jc      redraw
        cmp     edx, ecx
        jne     redraw
        dec     edx
        cmp     edx, [held_bytes]
        jne     redraw
        mov     dword ptr [held_bytes], 0
        call    put_bytes
        jmp     place_line
.held:
        inc     dword ptr [held_bytes]
.done:
        ret

; place_line: note in which row and column the cursor stands and which row is the last one; bytes that are held back count
; as on the screen, not at all.
;   in:        ebx  length, edi  cursor
;   out:       cursor_row, cursor_column, last_row; last_column  columns that are taken in it
;   clobbers:  eax, ecx, flags
place_line:
        push    edx
        push    esi
        mov     dword ptr [last_row], 0
        mov     dword ptr [last_column], 0
        mov     dword ptr [cursor_byte], CURSOR_PLACED
        call    measure_prompt
        mov     esi, line
        mov     ecx, ebx
        lea     eax, [esi + edi]
        mov     [cursor_byte], eax
        cmp     dword ptr [held_bytes], 0
        je      .whole
        mov     ecx, edi                ; before those that are held back, then after them
        sub     ecx, [held_bytes]
        call    measure
        lea     esi, [line + edi]
        mov     ecx, ebx
        sub     ecx, edi
.whole:
        call    measure

        ; The cursor stands where the character after it is; at the end it waits after the last one.
        cmp     dword ptr [cursor_byte], CURSOR_PLACED
        je      .done
        mov     eax, [last_row]
        mov     [cursor_row], eax
        mov     eax, [last_column]
        mov     [cursor_column], eax
.done:
        pop     esi
        pop     edx
        ret

; measure: go on by a text as put_shown shows it.
;   in:        esi  text, ecx  bytes
;   in, out:   last_row, last_column  where its end is; cursor_byte  the byte at which cursor_row and cursor_column are to
;              be noted, CURSOR_PLACED when they have been
;   clobbers:  eax, ecx, edx, esi, flags
measure:
        jecxz   .done
        call    decode_character
        call    character_width
        sub     ecx, edx
        push    edx
        mov     edx, eax
        add     eax, [last_column]
        call    fits_row
        jbe     .fits
        inc     dword ptr [last_row]
        mov     eax, edx
.fits:
        mov     [last_column], eax

        ; A cursor within a character, where deleting has joined its bytes, stands at the next one.
        cmp     esi, [cursor_byte]
        jb      .next
        sub     eax, edx
        mov     [cursor_column], eax
        mov     eax, [last_row]
        mov     [cursor_row], eax
        mov     dword ptr [cursor_byte], CURSOR_PLACED
.next:
        pop     edx
        add     esi, edx
        jmp     measure
.done:
        ret

; fits_row: does a row have this many columns?
;   in:        eax  columns
;   out:       flags as of CMP: BE if it has
fits_row:
        cmp     dword ptr [columns], 0
        je      .done
        cmp     eax, [columns]
.done:
        ret

; measure_prompt: go on by the prompt of the line that is edited.
;   in, out:   last_row, last_column
;   clobbers:  eax, ecx, edx, esi, flags
measure_prompt:
        cmp     dword ptr [searching], 0
        jne     .search
        mov     esi, directory
        call    measure_string
        mov     esi, prompt_end
        jmp     measure_string
.search:
        mov     esi, search_begin
        call    measure_string
        mov     esi, search_text
        call    measure_string
        mov     esi, search_end
measure_string:
        call    length
        jmp     measure

; leave_line: go to the last row of the line; the next output begins a new row.
;   clobbers:  eax, edx, flags
leave_line:
        mov     eax, [last_row]
        sub     eax, [cursor_row]
        mov     dl, 'B'
        call    put_control
        mov     dword ptr [cursor_row], 0
        mov     dword ptr [last_row], 0
        mov     dword ptr [held_bytes], 0
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

; resize: the terminal has another width, or the line is to be shown again, because other output has been written to the
; terminal.
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

SHOW_AGAIN = 9
CURSOR_PLACED = 0xffffffff

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
cursor_byte:
        .space  4
held_bytes:                     ; bytes at the cursor that are not on the screen, because their character is incomplete
        .space  4
        .text
