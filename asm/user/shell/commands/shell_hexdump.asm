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
        call    make_dump_tables
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
        call    dump_whole_lines
        jc      .done
        test    ebp, ebp
        jz      .look
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
.look:
        mov     ebp, DUMP_BREAK
        call    ask_break
        jz      .next
        clc
.done:
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
dump_digits:
        .space  1024
dump_glyphs:
        .space  256
        .text
