; Console output, collected so that a line is one system call.  Every routine here preserves every
; register; flags are lost.

OUTPUT_SIZE = 4096

; put_character: append a byte to the output.
;   in:        al   byte
;   clobbers:  flags
put_character:
        push    ebx
        mov     ebx, [output_used]
        cmp     ebx, OUTPUT_SIZE
        jb      .room
        call    flush
        xor     ebx, ebx
.room:
        mov     [output + ebx], al
        inc     ebx
        mov     [output_used], ebx
        pop     ebx
        ret

; flush: send what has been collected.
;   clobbers:  flags
flush:
        pushad
        mov     esi, output
        mov     ecx, [output_used]
        mov     dword ptr [output_used], 0
        test    ecx, ecx
        jz      .done
        SYSTEM  WRITE
.done:
        popad
        ret

; put_bytes: append bytes.
;   in:        esi  address, ecx  bytes
;   clobbers:  flags
put_bytes:
        pushad
        jecxz   .done
.next:
        lodsb
        call    put_character
        dec     ecx
        jnz     .next
.done:
        popad
        ret

; put_string: append a terminated string.
;   in:        esi  address
;   clobbers:  flags
put_string:
        push    eax
        push    esi
.next:
        lodsb
        test    al, al
        jz      .done
        call    put_character
        jmp     .next
.done:
        pop     esi
        pop     eax
        ret

; put_line: append a terminated string and a newline.
;   in:        esi  address
;   clobbers:  flags
put_line:
        call    put_string

; newline: end the line.
;   clobbers:  flags
newline:
        push    eax
        mov     al, 10
        call    put_character
        pop     eax
        ret

; put_space: append a blank.
;   clobbers:  flags
put_space:
        push    eax
        mov     al, ' '
        call    put_character
        pop     eax
        ret

; put_decimal: append a number.
;   in:        edx:eax  number, ecx  least width, filled with blanks
;   clobbers:  flags
put_decimal:
        pushad
        mov     edi, digits_end
        mov     ebx, 10
.digit:
        ; 64 by 32 bits: the high half first, its remainder is put before the low half.
        mov     esi, eax
        mov     eax, edx
        xor     edx, edx
        div     ebx
        xchg    eax, esi
        div     ebx
        dec     edi
        add     dl, '0'
        mov     [edi], dl
        mov     edx, esi
        mov     esi, eax
        or      esi, edx
        jnz     .digit

        mov     esi, edi
        mov     eax, digits_end
        sub     eax, edi
        sub     ecx, eax
        jle     .put
.pad:
        call    put_space
        dec     ecx
        jnz     .pad
.put:
        mov     ecx, eax
        call    put_bytes
        popad
        ret

; put_number: append a 32-bit number without padding.
;   in:        eax  number
;   clobbers:  flags
put_number:
        push    ecx
        push    edx
        xor     edx, edx
        xor     ecx, ecx
        call    put_decimal
        pop     edx
        pop     ecx
        ret

; put_hex: append eight hexadecimal digits.
;   in:        eax  number
;   clobbers:  flags
put_hex:
        pushad
        mov     ecx, 8
        mov     edx, eax
.digit:
        rol     edx, 4
        mov     eax, edx
        and     eax, 15
        mov     al, [hex_digits + eax]
        call    put_character
        dec     ecx
        jnz     .digit
        popad
        ret

        .rodata
hex_digits:
        .ascii  "0123456789abcdef"
        .bss
output:
        .space  OUTPUT_SIZE
output_used:
        .space  4
digits:
        .space  24
digits_end:
        .text
