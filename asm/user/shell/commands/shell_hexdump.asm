; hexdump: bytes of a file in the canonical form of hexdump -C, from where the kernel has mapped them.

DUMP_LINE = 16                  ; bytes shown in a line
DUMP_BREAK = 64                 ; lines between two checks for Ctrl-C

; command_hexdump: `hexdump FILE [OFFSET [LEN]]`; numbers are decimal, or hexadecimal after 0x.
;   out:       eax  status
command_hexdump:
        xor     eax, eax
        mov     [dump_at], eax
        mov     [dump_at + 4], eax
        dec     eax
        mov     [dump_left], eax
        mov     [dump_left + 4], eax
        cmp     dword ptr [word_count], 3
        jb      .open
        mov     esi, [words + 8]
        call    parse_long
        jc      .bad_number
        mov     [dump_at], eax
        mov     [dump_at + 4], edx
        cmp     dword ptr [word_count], 4
        jb      .open
        mov     esi, [words + 12]
        call    parse_long
        jc      .bad_number
        mov     [dump_left], eax
        mov     [dump_left + 4], edx

.open:
        mov     esi, [words + 4]
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        mov     esi, path
        mov     ebx, dump_input
        call    file_open
        jc      .failed
        push    ebx
        mov     ebx, dump_lost
        mov     esi, dump_copy
        mov     edi, dump_copied
        SYSTEM  FILE_HANDLER
        pop     ebx

        ; The rest of the file bounds LEN.
        call    file_size
        sub     eax, [dump_at]
        sbb     edx, [dump_at + 4]
        jb      .beyond
        cmp     eax, [dump_left]
        mov     ecx, edx
        sbb     ecx, [dump_left + 4]
        jae     .bounded
        mov     [dump_left], eax
        mov     [dump_left + 4], edx
.bounded:
        mov     eax, [dump_at]
        mov     edx, [dump_at + 4]
        call    file_seek
        call    dump_lines
        jc      .close
        call    put_offset
        call    newline
        call    file_close
        xor     eax, eax
        ret
.close:
        push    eax
        call    file_close
        pop     eax
.failed:
        mov     esi, [words + 4]
        jmp     report
.beyond:
        call    file_close
        mov     esi, [words + 8]
        mov     edi, behind_end
        jmp     report_word
.bad_number:
        mov     edi, not_number
        jmp     report_mistake

; dump_lines: show the lines; of lines that are the same only the first, and an asterisk.
;   in:        ebx  File, dump_at, dump_left
;   out:       CF=0  dump_at  the end            CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, esi, edi, ebp, flags
dump_lines:
        mov     [dump_stack], esp
        mov     dword ptr [dump_alike], -1
        mov     ebp, DUMP_BREAK
.next:
        call    fill_dump
        jc      .done
        test    edi, edi
        jz      .done
        cmp     edi, DUMP_LINE
        jne     .show

        ; DUMP_ALIKE: -1 before there is a line, 0 if the last one was shown, 1 if it was the asterisk.
        cmp     dword ptr [dump_alike], 0
        jl      .show
        mov     esi, dump_bytes
        mov     edi, dump_shown
        mov     ecx, DUMP_LINE / 4
        repe    cmpsd
        mov     edi, DUMP_LINE
        jne     .show
        cmp     dword ptr [dump_alike], 0
        jne     .over
        mov     dword ptr [dump_alike], 1
        mov     esi, asterisk
        call    put_line
        jmp     .over
.show:
        call    put_dump
        mov     dword ptr [dump_alike], 0
        push    edi
        mov     esi, dump_bytes
        mov     edi, dump_shown
        mov     ecx, DUMP_LINE / 4
        rep     movsd
        pop     edi
.over:
        add     [dump_at], edi
        adc     dword ptr [dump_at + 4], 0
        dec     ebp
        jnz     .next
        mov     ebp, DUMP_BREAK
        call    ask_break
        jz      .next
        clc
.done:
        ret

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
dump_copied:
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

        .rodata
behind_end:
        .asciz  ": lies past the end of the file"
not_number:
        .asciz  ": is not a number of bytes; write 4096 or 0x1000"
asterisk:
        .asciz  "*"
        .bss
        .align  4
dump_input:
        .space  sizeof(File)
dump_at:
        .space  8
dump_left:
        .space  8
dump_stack:
        .space  4
dump_alike:
        .space  4
dump_bytes:
        .space  DUMP_LINE
dump_shown:
        .space  DUMP_LINE
        .text
