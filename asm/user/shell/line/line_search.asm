; Ctrl-R: look for an earlier line by a part of it, letter by letter.

SEARCH_LIMIT = 40
CONTROL_R = 18
CONTROL_G = 7

; search_history: read the text to search for, showing the newest line that holds it.
;   out:       CF=0  ebx  length, edi  cursor; al  the key that ended it, to be obeyed, 0 for none
;              CF=1  the end of input
;   clobbers:  eax, ecx, edx, esi, flags
search_history:
        mov     dword ptr [searching], 1
        mov     dword ptr [search_bytes], 0
        mov     byte ptr [search_text], 0
        mov     dword ptr [history_at], 0
        xor     ebx, ebx
        xor     edi, edi
.show:
        call    redraw
.key:
        call    flush
        SYSTEM  READ_CHARACTER
        jc      .end
        cmp     al, CONTROL_R
        je      .older
        cmp     al, 127
        je      .shorter
        cmp     al, 8
        je      .shorter
        cmp     al, CONTROL_G
        je      .abandon
        cmp     al, ' '
        jb      .taken

        ; One more letter: the line that is shown may still match.
        mov     ecx, [search_bytes]
        cmp     ecx, SEARCH_LIMIT
        jae     .bell
        mov     [search_text + ecx], al
        mov     byte ptr [search_text + ecx + 1], 0
        inc     dword ptr [search_bytes]
        mov     eax, [history_at]
        cmp     eax, 1
        adc     eax, 0
        jmp     .look
.older:
        mov     eax, [history_at]
        inc     eax
.look:
        call    find_in_history
        jc      .bell
        call    history_show
        jmp     .show
.bell:
        mov     al, BELL
        call    put_character
        jmp     .show
.shorter:
        mov     ecx, [search_bytes]
        jecxz   .bell
        dec     ecx
        mov     [search_bytes], ecx
        mov     al, [search_text + ecx]
        mov     byte ptr [search_text + ecx], 0
        and     al, 0xc0
        cmp     al, 0x80
        je      .shorter
        mov     eax, 1
        jmp     .look
.abandon:
        xor     eax, eax
        call    history_show
        mov     al, 0
.taken:
        clc

        ; The line is shown with its own prompt again; the key that ended the search is the editor's.
.end:
        pushfd
        push    eax
        mov     dword ptr [searching], 0
        call    redraw
        pop     eax
        popfd
        ret

; find_in_history: find a line that holds `search_text`.
;   in:        eax  how many lines back to begin, from 1 on
;   out:       CF=0  eax  how many lines back        CF=1  there is none
;   clobbers:  ecx, edx, esi, flags
find_in_history:
        push    ebx
        push    edi
        mov     ebx, eax
.line:
        cmp     ebx, [history_count]
        ja      .none
        cmp     ebx, HISTORY
        ja      .none
        mov     eax, [history_count]
        sub     eax, ebx
        call    history_slot
.at:
        mov     edi, search_text
        xor     ecx, ecx
.byte:
        mov     al, [edi + ecx]
        test    al, al
        jz      .found
        cmp     al, [esi + ecx]
        jne     .differ
        inc     ecx
        jmp     .byte
.differ:
        inc     esi
        cmp     byte ptr [esi - 1], 0
        jne     .at
        inc     ebx
        jmp     .line
.found:
        mov     eax, ebx
        clc
        jmp     .done
.none:
        stc
.done:
        pop     edi
        pop     ebx
        ret

; line_prompt: the prompt of the line that is edited.
;   clobbers:  esi, flags
line_prompt:
        cmp     dword ptr [searching], 0
        je      prompt
        mov     esi, search_begin
        call    put_string
        pushad
        mov     esi, search_text
        call    length
        call    put_shown
        popad
        mov     esi, search_end
        jmp     put_string

        .rodata
search_begin:
        .asciz  "(search) '"
search_end:
        .asciz  "' "
        .bss
        .align  4
searching:
        .space  4
search_bytes:
        .space  4
search_text:
        .space  SEARCH_LIMIT + 1
        .text
