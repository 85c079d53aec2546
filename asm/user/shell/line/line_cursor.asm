; The line editor's characters: UTF-8, so one may be several bytes.

; character_before: find the characters before the cursor, from the line's start, since only a scan from there shows
; where they begin.
;   in:        ebx  length, edi  cursor, at least 1
;   out:       eax  where the last one begins; edx  where the last one that takes columns begins, 0 if none does
;   clobbers:  flags
character_before:
        push    ecx
        push    esi
        push    edi
        push    ebp
        add     edi, line
        xor     ebp, ebp
        mov     esi, line
        mov     ecx, ebx
.next:
        call    decode_character
        call    character_width
        test    eax, eax
        lea     eax, [esi - line]
        jz      .mark
        mov     ebp, eax
.mark:
        add     esi, edx
        sub     ecx, edx
        cmp     esi, edi
        jb      .next
        mov     edx, ebp
        pop     ebp
        pop     edi
        pop     esi
        pop     ecx
        ret

; cursor_left: move to the previous character, past the marks that it has.
;   in:        ebx  length
;   in, out:   edi  cursor
;   clobbers:  eax, edx, flags
cursor_left:
        test    edi, edi
        jz      .done
        call    character_before
        mov     edi, edx
.done:
        ret

; cursor_right: move to the next character, past the marks that it has.
;   in:        ebx  length
;   in, out:   edi  cursor
;   clobbers:  eax, ecx, edx, esi, flags
cursor_right:
        mov     ecx, ebx
        sub     ecx, edi
        jz      .done
        lea     esi, [line + edi]
        call    decode_character
.past:
        add     edi, edx
        add     esi, edx
        sub     ecx, edx
        jz      .done
        call    decode_character
        call    character_width
        test    eax, eax
        jz      .past
.done:
        ret

; erase_character: delete the character before the cursor, if there is one; of one with marks the last mark.
;   in, out:   ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, flags
erase_character:
        test    edi, edi
        jz      .done
        call    character_before
.byte:
        call    drop_byte
        cmp     edi, eax
        ja      .byte
.done:
        ret

; room_for: has the line room for a byte and the others of its character? Half a character would be of no use.
;   in:        al  the byte, ebx  length
;   out:       CF=1  no
;   clobbers:  ecx, flags
room_for:
        mov     ecx, 1
        cmp     al, 0x80
        jb      .begins
        cmp     al, 0xc0
        jb      .follows
        inc     ecx
        cmp     al, 0xe0
        jb      .begins
        inc     ecx
        cmp     al, 0xf0
        jb      .begins
        inc     ecx
.begins:
        add     ecx, ebx
        cmp     ecx, LINE_SIZE
        setae   byte ptr [refusing]
.follows:
        cmp     byte ptr [refusing], 1
        cmc
        ret
