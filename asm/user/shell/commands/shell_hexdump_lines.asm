; The lines of hexdump: whole ones straight out of the file's pages, others by way of a buffer.

DUMP_CHARACTERS = 61            ; where the characters are in a whole line, after offset, digits and a bar
DUMP_WIDTH = DUMP_CHARACTERS + DUMP_LINE + 2

; DUMP_BYTE: the digits of a byte of the line, with two blanks after them, and its character.
        .macro  DUMP_BYTE column, digits
        movzx   eax, byte ptr [esi + \column]
        mov     edx, [dump_digits + eax * 4]
        mov     [edi + \digits + \column * 3], edx
        mov     al, [dump_glyphs + eax]
        mov     [edi + DUMP_CHARACTERS + \column], al
        .endm

; dump_lost: a page was unavailable in dump_copy, in a call of fill_dump.
dump_lost:
        .frame  like dump_copied
        mov     esp, [dump_stack]
        .frame  call
        mov     ebx, dump_input
        stc
        ret

; fill_dump: collect the bytes of the next line, which may lie in several areas of the file.
;   in:        ebx  File, dump_left
;   out:       CF=0  dump_bytes, edi  how many, 0 at the end         CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, esi, flags
fill_dump:
        xor     edi, edi
.next:
        mov     eax, [dump_left]
        or      eax, [dump_left + 4]
        jz      .done
        cmp     edi, DUMP_LINE
        je      .done
        call    file_peek
        jc      .failed
        test    ecx, ecx
        jz      .done
        mov     esi, eax
        mov     edx, DUMP_LINE
        sub     edx, edi
        cmp     ecx, edx
        jbe     .room
        mov     ecx, edx
.room:
        cmp     dword ptr [dump_left + 4], 0
        jne     .wanted
        cmp     ecx, [dump_left]
        jbe     .wanted
        mov     ecx, [dump_left]
.wanted:
        sub     [dump_left], ecx
        sbb     dword ptr [dump_left + 4], 0
        add     [ebx + File.position], ecx
        adc     dword ptr [ebx + File.position + 4], 0
        call    dump_copy
        jmp     .next
.done:
        clc
.failed:
        ret

; dump_copy: copy bytes of the file into the line.
;   in:        esi  address, ecx  bytes, not 0; edi  bytes that the line has already
;   out:       edi  bytes that the line has now
;   clobbers:  eax, ecx, esi, flags
dump_copy:
        mov     al, [esi]
        mov     [dump_bytes + edi], al
        inc     esi
        inc     edi
        dec     ecx
        jnz     dump_copy
        ret

; show_whole_lines: show lines of DUMP_LINE bytes out of the file's pages, up to one that begins as the one before it.
;   in:        esi  address, ecx  lines, not 0; ebp  lines until the next look at Ctrl-C
;   out:       esi  after the last line shown, ebp  fewer by each; dump_at, dump_shown, dump_alike
;   clobbers:  eax, ebx, ecx, edx, edi, flags
show_whole_lines:
        mov     ebx, [dump_shown]
        cmp     dword ptr [dump_alike], 0
        jge     .line
        mov     ebx, [esi]
        not     ebx
.line:
        cmp     [esi], ebx
        je      .end
        mov     ebx, [esi]
        cmp     dword ptr [output_used], OUTPUT_SIZE - DUMP_WIDTH
        jbe     .room
        call    flush
.room:
        mov     edi, output
        add     edi, [output_used]
        .irp    column, 0, 1, 2, 3
        movzx   eax, byte ptr [dump_at + 3 - \column]
        mov     edx, [dump_digits + eax * 4]
        mov     [edi + \column * 2], edx
        .endr
        .irp    column, 0, 1, 2, 3, 4, 5, 6, 7
        DUMP_BYTE \column, 10
        .endr
        .irp    column, 8, 9, 10, 11, 12, 13, 14, 15
        DUMP_BYTE \column, 11
        .endr
        mov     byte ptr [edi + DUMP_CHARACTERS - 1], '|'
        mov     word ptr [edi + DUMP_CHARACTERS + DUMP_LINE], '|' | 10 << 8
        add     dword ptr [output_used], DUMP_WIDTH
        add     dword ptr [dump_at], DUMP_LINE
        add     esi, DUMP_LINE
        dec     ebp
        dec     ecx
        jnz     .line
.end:
        ret
dump_copied:
        ret

; dump_whole_lines: show as many whole lines as lie in memory in one piece, at positions below 4 GiB.
;   in:        ebx  File, dump_at, dump_left; ebp  lines until the next look at Ctrl-C
;   out:       CF=0  all of these after the lines shown         CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, esi, edi, flags
dump_whole_lines:
        mov     eax, [dump_at]
        add     eax, DUMP_BREAK * DUMP_LINE
        mov     eax, [dump_at + 4]
        adc     eax, 0
        jnz     .none
        call    file_peek
        jc      .done
        cmp     dword ptr [dump_left + 4], 0
        jne     .wanted
        cmp     ecx, [dump_left]
        jbe     .wanted
        mov     ecx, [dump_left]
.wanted:
        shr     ecx, 4
        jz      .none
        cmp     ecx, ebp
        jbe     .some
        mov     ecx, ebp
.some:
        push    ebx
        push    eax
        mov     esi, eax
        call    show_whole_lines
        pop     eax
        pop     ebx
        mov     ecx, esi
        sub     ecx, eax
        jz      .none
        sub     [dump_left], ecx
        sbb     dword ptr [dump_left + 4], 0
        add     [ebx + File.position], ecx
        adc     dword ptr [ebx + File.position + 4], 0
        mov     dword ptr [dump_alike], 0
        sub     esi, DUMP_LINE
        xor     edi, edi
        mov     ecx, DUMP_LINE
        call    dump_copy
        mov     esi, dump_bytes
        mov     edi, dump_shown
        mov     ecx, DUMP_LINE / 4
        rep     movsd
.none:
        clc
.done:
        ret

; make_dump_tables: for each byte its two digits with two blanks, and the character that is shown for it.
;   clobbers:  eax, ecx, edx, flags
make_dump_tables:
        xor     ecx, ecx
.byte:
        mov     eax, ecx
        shr     eax, 4
        mov     edx, (' ' << 8 | ' ') << 16
        mov     dl, [hex_digits + eax]
        mov     eax, ecx
        and     eax, 15
        mov     dh, [hex_digits + eax]
        mov     [dump_digits + ecx * 4], edx
        mov     al, cl
        cmp     al, ' '
        jb      .dot
        cmp     al, '~'
        jbe     .glyph
.dot:
        mov     al, '.'
.glyph:
        mov     [dump_glyphs + ecx], al
        inc     ecx
        cmp     ecx, 256
        jb      .byte
        ret

; put_dump: show one line.
;   in:        edi  bytes in dump_bytes
;   clobbers:  eax, ecx, flags
put_dump:
        call    put_offset
        xor     ecx, ecx
.byte:
        call    put_space
        test    ecx, DUMP_LINE / 2 - 1
        jnz     .same_half
        call    put_space
.same_half:
        cmp     ecx, edi
        jae     .none
        mov     al, [dump_bytes + ecx]
        call    put_hex_byte
        jmp     .shown
.none:
        call    put_space
        call    put_space
.shown:
        inc     ecx
        cmp     ecx, DUMP_LINE
        jb      .byte
        call    put_space
        call    put_space
        mov     al, '|'
        call    put_character
        xor     ecx, ecx
.character:
        mov     al, [dump_bytes + ecx]
        cmp     al, ' '
        jb      .dot
        cmp     al, '~'
        jbe     .put
.dot:
        mov     al, '.'
.put:
        call    put_character
        inc     ecx
        cmp     ecx, edi
        jb      .character
        mov     al, '|'
        call    put_character
        jmp     newline

; put_offset: append dump_at in hexadecimal, eight digits or as many as it takes.
;   clobbers:  eax, flags
put_offset:
        mov     eax, [dump_at + 4]
        test    eax, eax
        jz      .low
        push    ecx
        push    edx
        mov     edx, eax
        bsr     ecx, eax
        and     ecx, ~3
.digit:
        mov     eax, edx
        shr     eax, cl
        and     eax, 15
        mov     al, [hex_digits + eax]
        call    put_character
        sub     ecx, 4
        jns     .digit
        pop     edx
        pop     ecx
.low:
        mov     eax, [dump_at]
        jmp     put_hex

; put_hex_byte: append two hexadecimal digits.
;   in:        al   byte
;   clobbers:  eax, flags
put_hex_byte:
        push    edx
        movzx   edx, al
        mov     eax, edx
        shr     eax, 4
        mov     al, [hex_digits + eax]
        call    put_character
        and     edx, 15
        mov     al, [hex_digits + edx]
        call    put_character
        pop     edx
        ret

