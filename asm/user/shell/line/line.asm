; Reading a line: with editing and history on a terminal, plain otherwise.

LINE_SIZE = 512
HISTORY = 500                   ; lines that are kept
HISTORY_SLOTS = 512             ; a power of two above it
TAB = 9
ESCAPE = 27

; read_line: read a line of input.
;   in:        interactive
;   out:       CF=0  line  the line, terminated, without its end        CF=1  there is no more input
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
read_line:
        xor     ebx, ebx
        xor     edi, edi
        mov     dword ptr [history_at], 0
.key:
        call    flush
        SYSTEM  READ_CHARACTER
        jc      .end
        cmp     al, 10
        je      .newline
        mov     byte ptr [after_return], 0
        cmp     al, 13
        je      .return
        cmp     dword ptr [interactive], 0
        je      .insert
        cmp     al, ESCAPE
        je      .escape
        cmp     al, TAB
        je      .complete
        mov     dword ptr [tab_again], 0
        cmp     al, 127
        je      .backspace
        cmp     al, 32
        jb      .control
        call    room_for
        jc      .full
.insert:
        ; EBX bytes in the line, EDI the cursor.
        cmp     ebx, LINE_SIZE - 1
        jae     .full
        mov     ecx, ebx
.shift:
        cmp     ecx, edi
        jbe     .store
        mov     dl, [line + ecx - 1]
        mov     [line + ecx], dl
        dec     ecx
        jmp     .shift
.store:
        mov     [line + edi], al
        inc     ebx
        inc     edi
        call    echo_insert
        jmp     .key

        ; Half a line is not a command: on a terminal no more bytes are taken, elsewhere the line will be refused.
.full:
        mov     byte ptr [line_cut], 1
        cmp     dword ptr [interactive], 0
        je      .key
        mov     byte ptr [line_cut], 0
        mov     al, BELL
        call    put_character
        jmp     .key

.end:
        test    ebx, ebx
        jnz     .take
        stc
        ret
.newline:
        ; LF right after CR is the second half of one line end.
        cmp     byte ptr [after_return], 0
        mov     byte ptr [after_return], 0
        jne     .key
        jmp     .take
.return:
        mov     byte ptr [after_return], 1
.take:
        mov     byte ptr [line + ebx], 0
        cmp     dword ptr [interactive], 0
        je      .taken
        call    leave_line
        call    newline
        .event  shell.line length=ebx
        call    remember
.taken:
        cmp     byte ptr [line_cut], 0
        je      .whole
        mov     byte ptr [line_cut], 0
        mov     byte ptr [line], 0
        mov     dword ptr [status], STATUS_USAGE
        mov     esi, line_too_long
        call    put_line
        call    flush
.whole:
        clc
        ret

.control:
        movzx   eax, al
        cmp     eax, CONTROL_KEYS
        jae     .key
        jmp     dword ptr [control_keys + eax * 4]
.home:
        xor     edi, edi
        jmp     .redraw
.last:
        mov     edi, ebx
        jmp     .redraw
.left:
        call    cursor_left
        jmp     .redraw
.right:
        call    cursor_right
        jmp     .redraw
.abandon:
        call    leave_line
        call    show_break
        mov     dword ptr [history_at], 0
        xor     ebx, ebx
        xor     edi, edi
        call    prompt
        jmp     .key
.end_or_delete:
        test    ebx, ebx
        jz      .end
.delete:
        cmp     edi, ebx
        jae     .key
        push    edi
        call    cursor_right
.forward:
        call    drop_byte
        cmp     edi, [esp]
        ja      .forward
        pop     eax
        jmp     .redraw
.backspace:
        call    erase_character
        jmp     .redraw
.clear:
        call    leave_line
        mov     esi, clear_screen
        call    put_string
        jmp     .redraw
.kill_end:
        mov     ebx, edi
        jmp     .redraw
.kill_line:
        xor     ebx, ebx
        xor     edi, edi
        jmp     .redraw
.word:
        test    edi, edi
        jz      .redraw
        cmp     byte ptr [line + edi - 1], ' '
        jne     .letters
        call    drop_byte
        jmp     .word
.letters:
        test    edi, edi
        jz      .redraw
        cmp     byte ptr [line + edi - 1], ' '
        je      .redraw
        call    drop_byte
        jmp     .letters
.older:
        call    history_older
        jmp     .redraw
.newer:
        call    history_newer
        jmp     .redraw
.search:
        call    search_history
        jc      .end
        cmp     al, 10
        je      .newline
        cmp     al, 13
        je      .return
        cmp     al, ESCAPE
        je      .escape
        cmp     al, TAB
        je      .complete
        jmp     .control
.complete:
        call    complete_word
        jmp     .key
.redraw:
        call    redraw
        jmp     .key

.escape:
        SYSTEM  READ_CHARACTER
        jc      .end
        cmp     al, '['
        je      .sequence
        cmp     al, 'O'
        jne     .key
.sequence:
        call    read_parameters
        jc      .end
        cmp     al, 'A'
        je      .older
        cmp     al, 'B'
        je      .newer
        cmp     al, 'C'
        je      .right
        cmp     al, 'D'
        je      .left
        cmp     al, 'H'
        je      .home
        cmp     al, 'F'
        je      .last
        mov     ecx, [parameters]
        cmp     al, 't'
        je      .size
        cmp     al, '~'
        jne     .key
        cmp     ecx, 3
        je      .delete
        cmp     ecx, 1
        je      .home
        cmp     ecx, 4
        je      .last
        jmp     .key
.size:
        call    resize
        jmp     .key

        .rodata
clear_screen:
        .byte   ESCAPE
        .ascii  "[H"
        .byte   ESCAPE
        .asciz  "[2J"
line_too_long:
        .asciz  "shell: a line has at most 511 bytes"
        .bss
line:
        .space  LINE_SIZE
after_return:
        .space  1
line_cut:
        .space  1
refusing:                       ; the character that is being typed has no room
        .space  1
        .align 4
interactive:
        .space  4
        .text
