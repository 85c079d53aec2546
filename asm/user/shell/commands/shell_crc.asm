; crc32: the CRC-32 of files (ISO 3309, as zlib computes it), over their data where the kernel has mapped it.

CRC_POLYNOMIAL = 0xedb88320     ; x^32 + x^26 + … + 1, the lowest bit first
CRC_TABLE = 256 * 4              ; bytes of a table
CRC_TABLES = 4

; command_crc32: `crc32 FILE…`.
;   out:       eax  status
command_crc32:
        call    make_crc_table
        mov     ebp, 1
        xor     edi, edi
.next:
        mov     esi, [words + ebp * 4]
        push    edi
        push    ebp
        call    crc_file
        pop     ebp
        pop     edi
        mov     esi, [words + ebp * 4]
        jc      .failed
        call    put_hex
        push    esi
        mov     esi, two_blanks
        call    put_string
        pop     esi
        call    put_line
        jmp     .shown
.failed:
        call    report
        mov     edi, STATUS_FAILED
.shown:
        call    flush
        call    ask_break
        jnz     .end
        inc     ebp
        cmp     ebp, [word_count]
        jb      .next
.end:
        mov     eax, edi
        ret

; crc_file: the CRC-32 of one file.
;   in:        esi  path as typed
;   out:       CF=0  eax  CRC-32             CF=1  eax  ErrorCode
;   clobbers:  ebx, ecx, edx, esi, edi, ebp, flags
crc_file:
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .done
        mov     esi, path
        mov     ebx, crc_input
        call    file_open
        jc      .done

        ; The disk may be removed while its pages are read: that is an error of this file, not the end of the shell.
        push    ebx
        mov     ebx, crc_lost
        mov     esi, crc_add
        mov     edi, crc_added
        SYSTEM  FILE_HANDLER
        pop     ebx
        mov     ebp, -1
.next:
        call    file_peek
        jc      crc_failed
        test    ecx, ecx
        jz      .end
        add     [ebx + File.position], ecx
        adc     dword ptr [ebx + File.position + 4], 0
        call    crc_add
        mov     ebx, crc_input
        jmp     .next
.end:
        call    file_close
        mov     eax, ebp
        not     eax
        clc
.done:
        ret

; crc_lost: a page was unavailable in crc_add, whose return address is on the stack.
crc_lost:
        .frame  call, 4
        add     esp, 4
        mov     ebx, crc_input
crc_failed:
        push    eax
        call    file_close
        pop     eax
        stc
        ret

; crc_add: carry a CRC on over bytes, four at a time: each byte of a doubleword has a table of its own, which tells its
; remainder with what comes after it in the doubleword.
;   in:        ebp  CRC, eax  address, ecx  bytes, not 0
;   out:       ebp  CRC
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
crc_add:
        mov     esi, eax
        lea     edi, [eax + ecx - 7]    ; before it eight bytes can be loaded
        mov     edx, ebp
        cmp     esi, edi
        jae     .rest

        ; The CRC is in EDX, in EBX after half of a turn.
.eight:
        xor     edx, [esi]
        movzx   eax, dl
        movzx   ecx, dh
        shr     edx, 16
        mov     ebx, [crc_table + 3 * CRC_TABLE + eax * 4]
        xor     ebx, [crc_table + 2 * CRC_TABLE + ecx * 4]
        movzx   eax, dl
        shr     edx, 8
        xor     ebx, [crc_table + CRC_TABLE + eax * 4]
        xor     ebx, [crc_table + edx * 4]

        xor     ebx, [esi + 4]
        movzx   eax, bl
        movzx   ecx, bh
        shr     ebx, 16
        mov     edx, [crc_table + 3 * CRC_TABLE + eax * 4]
        xor     edx, [crc_table + 2 * CRC_TABLE + ecx * 4]
        movzx   eax, bl
        shr     ebx, 8
        xor     edx, [crc_table + CRC_TABLE + eax * 4]
        xor     edx, [crc_table + ebx * 4]
        add     esi, 8
        cmp     esi, edi
        jb      .eight

.rest:
        add     edi, 7
        mov     ebp, edx
        jmp     .more
.byte:
        movzx   eax, byte ptr [esi]
        xor     eax, ebp
        movzx   eax, al
        shr     ebp, 8
        xor     ebp, [crc_table + eax * 4]
        inc     esi
.more:
        cmp     esi, edi
        jb      .byte
crc_added:
        ret

; make_crc_table: the remainders of all bytes, and those of each byte with one, two and three bytes of zeros after it.
;   clobbers:  eax, ecx, edx, flags
make_crc_table:
        xor     ecx, ecx
.byte:
        mov     eax, ecx
        mov     edx, 8
.bit:
        shr     eax, 1
        jnc     .zero
        xor     eax, CRC_POLYNOMIAL
.zero:
        dec     edx
        jnz     .bit
        mov     [crc_table + ecx * 4], eax
        inc     ecx
        cmp     ecx, CRC_TABLE / 4
        jb      .byte

        ; ECX goes on through the other tables: each is made from the one before it.
.further:
        mov     eax, [crc_table + ecx * 4 - CRC_TABLE]
        movzx   edx, al
        shr     eax, 8
        xor     eax, [crc_table + edx * 4]
        mov     [crc_table + ecx * 4], eax
        inc     ecx
        cmp     ecx, CRC_TABLES * CRC_TABLE / 4
        jb      .further
        ret

        .include "../../library/file.asm"

        .rodata
two_blanks:
        .asciz  "  "
        .bss
        .align  4
crc_input:
        .space  sizeof(File)
crc_table:
        .space  CRC_TABLES * CRC_TABLE
        .text
