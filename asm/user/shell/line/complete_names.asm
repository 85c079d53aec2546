; The two uses of the names of a completion: find their common beginning, or show them.

ROW_WIDTH = 78                  ; where the terminal's is not known
ROW_MARGIN = 2                  ; columns at the end of a row that stay free
COMMON_SIZE = 1024

; note_name: count a name, and keep what all of them begin with.
;   in:        esi  name, ecx  its bytes, eax  non-zero for a directory
;   clobbers:  eax, ecx, edx, esi, edi, flags
note_name:
        mov     [found_directory], eax
        cmp     ecx, COMMON_SIZE
        jbe     .bounded
        mov     ecx, COMMON_SIZE
.bounded:
        mov     edi, common
        inc     dword ptr [found]
        cmp     dword ptr [found], 1
        jne     .shorten
        mov     [common_bytes], ecx
        rep movsb
        ret
.shorten:
        cmp     ecx, [common_bytes]
        jae     .compare
        mov     [common_bytes], ecx
.compare:
        xor     edx, edx
.next:
        cmp     edx, [common_bytes]
        jae     .done
        mov     al, [esi + edx]
        mov     ah, [edi + edx]
        call    same_in_volume
        jne     .differ
        inc     edx
        jmp     .next
.differ:
        ; Not in the middle of a character.
        mov     al, [edi + edx]
        and     al, 0xc0
        cmp     al, 0x80
        jne     .cut
        dec     edx
        jnz     .differ
.cut:
        mov     [common_bytes], edx
.done:
        ret

; show_name: show a name in a row of them.
;   in, clobbers: as note_name
show_name:
        push    eax
        call    text_columns
        mov     edi, eax
        mov     edx, [column]
        test    edx, edx
        jz      .put
        lea     edx, [edx + edi + 2]
        cmp     edx, [row_width]
        ja      .row
        call    put_space
        call    put_space
        jmp     .named
.row:
        call    newline
.put:
        lea     edx, [edi + 1]
.named:
        mov     [column], edx
        call    put_shown
        pop     eax
        test    eax, eax
        jz      .done
        mov     al, '/'
        call    put_character
        inc     dword ptr [column]
.done:
        ret

        .bss
        .align  4
found:
        .space  4
found_directory:
        .space  4
common_bytes:
        .space  4
column:
        .space  4
row_width:
        .space  4
common:
        .space  COMMON_SIZE
        .text
