; Strings: terminated, bytes; letters are compared without regard to case where it says so.

; length: bytes of a string.
;   in:        esi  string
;   out:       ecx  bytes without the zero
;   clobbers:  flags
length:
        xor     ecx, ecx
.next:
        cmp     byte ptr [esi + ecx], 0
        je      .done
        inc     ecx
        jmp     .next
.done:
        ret

; lower: fold an ASCII letter.
;   in, out:   al
;   clobbers:  flags
lower:
        cmp     al, 'A'
        jb      .done
        cmp     al, 'Z'
        ja      .done
        or      al, 0x20
.done:
        ret

; same_letter: compare two bytes, ASCII letters without regard to case.
;   in:        al, ah
;   out:       ZF=1 if they are the same
;   clobbers:  eax, flags
same_letter:
        call    lower
        xchg    al, ah
        call    lower
        cmp     al, ah
        ret

; same_word: compare two strings, ASCII letters without regard to case.
;   in:        esi, edi  strings
;   out:       ZF=1 if they are the same
;   clobbers:  flags
same_word:
        push    eax
        push    ebx
        push    esi
        push    edi
.next:
        mov     al, [edi]
        call    lower
        mov     bl, al
        lodsb
        call    lower
        inc     edi
        cmp     al, bl
        jne     .done
        test    al, al
        jnz     .next
.done:
        pop     edi
        pop     esi
        pop     ebx
        pop     eax
        ret

; copy_string: copy a string, cut to the room there is.
;   in:        esi  string, edi  target, ecx  its size, at least 1
;   clobbers:  flags
copy_string:
        push    eax
        push    ecx
        push    esi
        push    edi
.next:
        dec     ecx
        jz      .end
        lodsb
        test    al, al
        jz      .end
        stosb
        jmp     .next
.end:
        mov     byte ptr [edi], 0
        pop     edi
        pop     esi
        pop     ecx
        pop     eax
        ret

; parse_number: read a decimal number.
;   in:        esi  string
;   out:       CF=0  eax  number        CF=1  not a number below 2^32
;   clobbers:  ecx, edx, flags
parse_number:
        push    esi
        xor     ecx, ecx
        cmp     byte ptr [esi], 0
        je      .bad
.digit:
        movzx   eax, byte ptr [esi]
        test    al, al
        jz      .done
        sub     al, '0'
        cmp     al, 9
        ja      .bad
        xchg    eax, ecx
        mov     edx, 10
        mul     edx
        jc      .bad
        add     ecx, eax
        jc      .bad
        inc     esi
        jmp     .digit
.done:
        mov     eax, ecx
        pop     esi
        clc
        ret
.bad:
        pop     esi
        stc
        ret

; parse_long: read a number of 64 bits, decimal or, after 0x, hexadecimal.
;   in:        esi  string
;   out:       CF=0  edx:eax  number        CF=1  not a number below 2^64
;   clobbers:  ecx, flags
parse_long:
        push    ebx
        push    esi
        push    edi
        push    ebp
        xor     edi, edi
        xor     ebp, ebp
        mov     ebx, 10
        cmp     byte ptr [esi], '0'
        jne     .first
        mov     al, [esi + 1]
        call    lower
        cmp     al, 'x'
        jne     .first
        mov     ebx, 16
        add     esi, 2
.first:
        cmp     byte ptr [esi], 0
        je      .bad

        ; EBP:EDI is the number so far, EBX the base, ECX the digit.
.digit:
        mov     al, [esi]
        inc     esi
        test    al, al
        jz      .done
        call    lower
        movzx   ecx, al
        sub     ecx, '0'
        cmp     ecx, 9
        jbe     .value
        sub     ecx, 'a' - '0' - 10
        cmp     ecx, 10
        jb      .bad
.value:
        cmp     ecx, ebx
        jae     .bad
        mov     eax, ebp
        mul     ebx
        jc      .bad
        mov     ebp, eax
        mov     eax, edi
        mul     ebx
        add     eax, ecx
        adc     edx, 0
        mov     edi, eax
        add     ebp, edx
        jnc     .digit
.bad:
        stc
        jmp     .return
.done:
        mov     eax, edi
        mov     edx, ebp
        clc
.return:
        pop     ebp
        pop     edi
        pop     esi
        pop     ebx
        ret
