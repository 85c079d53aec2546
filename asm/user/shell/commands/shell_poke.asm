; poke: change bytes of a file in memory, through the window on it.

POKE_FIRST = 3                  ; word of the first byte

; command_poke: `poke FILE OFFSET BYTE…`; numbers are decimal, or hexadecimal after 0x.
;   out:       eax  status
command_poke:
        mov     esi, [words + 8]
        mov     edi, not_number
        call    parse_long
        jc      report_mistake
        mov     [poke_at], eax
        mov     [poke_at + 4], edx
        mov     ebp, POKE_FIRST
.byte:
        mov     esi, [words + ebp * 4]
        mov     edi, not_byte
        call    parse_long
        jc      report_mistake
        mov     ecx, eax
        shr     eax, 8
        or      eax, edx
        jnz     report_mistake
        mov     [poke_bytes + ebp - POKE_FIRST], cl
        inc     ebp
        cmp     ebp, [word_count]
        jb      .byte
        sub     ebp, POKE_FIRST

        mov     esi, [words + 4]
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        mov     esi, path
        mov     ebx, poke_file
        call    file_open_to_write
        jc      .failed
        mov     eax, [poke_at]
        mov     edx, [poke_at + 4]
        call    file_seek
        mov     esi, poke_bytes

        ; A short write is repeated with the rest: then it is the end of the file, or has an error.
.more:
        mov     ecx, ebp
        call    file_write
        jc      .close
        add     esi, eax
        sub     ebp, eax
        jz      .done
        test    eax, eax
        jnz     .more
        call    file_close
        mov     esi, [words + 8]
        mov     edi, behind_end
        jmp     report_word
.done:
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

        .rodata
not_byte:
        .asciz  ": is not a byte; write 0 to 255, or 0x00 to 0xff"
        .bss
        .align  4
poke_file:
        .space  sizeof(File)
poke_at:
        .space  8
poke_bytes:
        .space  WORDS_LIMIT
        .text
