; The line editor's characters: UTF-8, so one may be several bytes.

; continues: is the byte at the cursor the inside of a character?
;   in:        edi  cursor
;   out:       ZF=1 if it is
;   clobbers:  al, flags
continues:
        mov     al, [line + edi]
        and     al, 0xc0
        cmp     al, 0x80
        ret

; cursor_left: go to the character before.
;   in, out:   edi  cursor
;   clobbers:  al, flags
cursor_left:
        test    edi, edi
        jz      .done
        dec     edi
        call    continues
        je      cursor_left
.done:
        ret

; cursor_right: go to the character behind.
;   in:        ebx  length
;   in, out:   edi  cursor
;   clobbers:  al, flags
cursor_right:
        cmp     edi, ebx
        jae     .done
        inc     edi
        cmp     edi, ebx
        jae     .done
        call    continues
        je      cursor_right
.done:
        ret

; erase_character: delete the character before the cursor, if there is one.
;   in, out:   ebx  length, edi  cursor
;   clobbers:  eax, ecx, edx, flags
erase_character:
        test    edi, edi
        jz      .done
        mov     al, [line + edi - 1]
        call    drop_byte
        and     al, 0xc0
        cmp     al, 0x80
        je      erase_character
.done:
        ret

; characters_behind: count the characters from the cursor to the end of the line.
;   in:        ebx  length, edi  cursor
;   out:       ecx  characters
;   clobbers:  eax, flags
characters_behind:
        push    edi
        xor     ecx, ecx
.next:
        cmp     edi, ebx
        jae     .done
        call    continues
        je      .inside
        inc     ecx
.inside:
        inc     edi
        jmp     .next
.done:
        pop     edi
        ret
