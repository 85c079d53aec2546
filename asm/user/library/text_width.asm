; How many columns of a terminal text takes, and how it is shown so that this is true: UTF-8, whose control characters, line
; and paragraph separators, and bytes that are part of no character are question marks.

UTF8_LIMIT = 4                  ; bytes of a character
NO_CHARACTER = 0xffffffff

; decode_character: decode the first character of a text.
;   in:        esi  text, ecx  bytes, at least 1
;   out:       eax  its number, NO_CHARACTER for a byte that begins none; edx  its bytes, 1 for such a byte
;              CF=1  the text ends within it: eax  NO_CHARACTER, edx  1
;   clobbers:  flags
decode_character:
        push    ebx
        push    edi
        push    ebp
        movzx   eax, byte ptr [esi]
        mov     edx, 1
        cmp     al, 0x80
        jb      .done
        cmp     al, 0xc2
        jb      .none
        cmp     al, 0xf5
        jae     .none

        ; EDX bytes, and EDI is the least number that takes this many.
        inc     edx
        mov     edi, 0x80
        cmp     al, 0xe0
        jb      .two
        inc     edx
        mov     edi, 0x800
        cmp     al, 0xf0
        jb      .three
        inc     edx
        mov     edi, 0x10000
        and     eax, 7
        jmp     .follow
.three:
        and     eax, 15
        jmp     .follow
.two:
        and     eax, 31
.follow:
        mov     ebx, 1
.byte:
        cmp     ebx, ecx
        jae     .cut
        movzx   ebp, byte ptr [esi + ebx]
        xor     ebp, 0x80
        cmp     ebp, 0x40
        jae     .none
        shl     eax, 6
        or      eax, ebp
        inc     ebx
        cmp     ebx, edx
        jb      .byte
        cmp     eax, edi
        jb      .none
        cmp     eax, 0x110000
        jae     .none
        mov     ebp, eax
        and     ebp, 0xfffff800
        cmp     ebp, 0xd800             ; surrogates
        je      .none
.done:
        clc
        jmp     .return
.none:
        mov     eax, NO_CHARACTER
        mov     edx, 1
        clc
        jmp     .return
.cut:
        mov     eax, NO_CHARACTER
        mov     edx, 1
        stc
.return:
        pop     ebp
        pop     edi
        pop     ebx
        ret

; character_width: how many columns does a character take as it is shown?
;   in:        eax  its number, or NO_CHARACTER
;   out:       eax  0, 1 or 2
;   clobbers:  flags
character_width:
        cmp     eax, 0x300
        jb      .one
        cmp     eax, 0x110000
        jae     .one
        push    ebx
        push    ecx
        push    edx
        shl     eax, 2
        or      eax, 3
        xor     ecx, ecx
        mov     edx, (character_widths_end - character_widths) / 4

        ; The entry ECX is not above the character, and the entry EDX is.
.half:
        lea     ebx, [ecx + edx]
        shr     ebx, 1
        cmp     ebx, ecx
        je      .found
        cmp     [character_widths + ebx * 4], eax
        ja      .below
        mov     ecx, ebx
        jmp     .half
.below:
        mov     edx, ebx
        jmp     .half
.found:
        mov     eax, [character_widths + ecx * 4]
        and     eax, 3
        pop     edx
        pop     ecx
        pop     ebx
        ret
.one:
        mov     eax, 1
        ret

; is_shown: is a character shown as it is?
;   in:        eax  its number, or NO_CHARACTER
;   out:       CF=1  no, a question mark stands for it
;   clobbers:  flags
is_shown:
        cmp     eax, ' '
        jb      .done
        cmp     eax, 127
        jb      .yes
        cmp     eax, 0xa0
        jb      .done
        cmp     eax, NO_CHARACTER
        je      .no
        cmp     eax, 0x2028
        je      .no
        cmp     eax, 0x2029
        je      .no
.yes:
        clc
        ret
.no:
        stc
.done:
        ret

; put_shown: append text as it can be shown.
;   in:        esi  text, ecx  bytes
;   clobbers:  eax, ecx, edx, esi, flags
put_shown:
        jecxz   .done
        call    decode_character
        call    is_shown
        jc      .mark
        push    ecx
        mov     ecx, edx
        call    put_bytes
        pop     ecx
        jmp     .next
.mark:
        mov     al, '?'
        call    put_character
.next:
        add     esi, edx
        sub     ecx, edx
        jmp     put_shown
.done:
        ret

; text_columns: how many columns does a text take as put_shown shows it?
;   in:        esi  text, ecx  bytes
;   out:       eax  columns
;   clobbers:  flags
text_columns:
        push    ebx
        push    ecx
        push    edx
        push    esi
        xor     ebx, ebx
.next:
        jecxz   .done
        call    decode_character
        call    character_width
        add     ebx, eax
        add     esi, edx
        sub     ecx, edx
        jmp     .next
.done:
        mov     eax, ebx
        pop     esi
        pop     edx
        pop     ecx
        pop     ebx
        ret
