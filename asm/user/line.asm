; Reading a line: with editing and history on a terminal, plain otherwise.

LINE_SIZE = 512
HISTORY = 16
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
        cmp     al, 127
        je      .backspace
        cmp     al, 32
        jb      .control
.insert:
        ; EBX bytes in the line, EDI the cursor.
        cmp     ebx, LINE_SIZE - 1
        jae     .key
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

.end:
        test    ebx, ebx
        jnz     .take
        stc
        ret
.newline:
        ; LF right behind CR is the second half of one line end.
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
        call    newline
        call    remember
.taken:
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
        test    edi, edi
        jz      .key
        dec     edi
        jmp     .redraw
.right:
        cmp     edi, ebx
        jae     .key
        inc     edi
        jmp     .redraw
.abandon:
        mov     esi, caret_c
        call    put_string
        call    newline
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
        inc     edi
.backspace:
        test    edi, edi
        jz      .key
        mov     ecx, edi
.close:
        cmp     ecx, ebx
        jae     .closed
        mov     dl, [line + ecx]
        mov     [line + ecx - 1], dl
        inc     ecx
        jmp     .close
.closed:
        dec     ebx
        dec     edi
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
        SYSTEM  READ_CHARACTER
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
        cmp     al, '0'
        jb      .key
        cmp     al, '9'
        ja      .key
        mov     dl, al
        push    edx
        SYSTEM  READ_CHARACTER
        pop     edx
        jc      .end
        cmp     dl, '3'
        je      .delete
        cmp     dl, '1'
        je      .home
        cmp     dl, '4'
        je      .last
        jmp     .key

        .rodata
        .align 4
; Indexed by the control character.
control_keys:
        .long   read_line.key, read_line.home, read_line.left, read_line.abandon
        .long   read_line.end_or_delete, read_line.last, read_line.right, read_line.key
        .long   read_line.backspace, read_line.key, read_line.key, read_line.kill_end
        .long   read_line.redraw, read_line.key, read_line.newer, read_line.key
        .long   read_line.older, read_line.key, read_line.key, read_line.key
        .long   read_line.key, read_line.kill_line, read_line.key, read_line.word
CONTROL_KEYS = ($ - control_keys) / 4
caret_c:
        .asciz  "^C"
        .bss
line:
        .space  LINE_SIZE
after_return:
        .space  1
        .align 4
interactive:
        .space  4
        .text
