; The line editor's memory: earlier lines, and the line's own bytes.

; drop_byte: delete the byte before the cursor.
;   in, out:   ebx  length, edi  cursor, at least 1
;   clobbers:  ecx, edx, flags
drop_byte:
        mov     ecx, edi
.next:
        cmp     ecx, ebx
        jae     .done
        mov     dl, [line + ecx]
        mov     [line + ecx - 1], dl
        inc     ecx
        jmp     .next
.done:
        dec     ebx
        dec     edi
        ret

; begin_history: make room for lines, and take over those of earlier sessions, which the emulator puts into /rom.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
begin_history:
        mov     ecx, HISTORY_SLOTS * LINE_SIZE
        SYSTEM  ALLOCATE
        jc      .done
        mov     [history], eax
        mov     ebx, history_file
        mov     esi, history_path
        mov     ecx, HISTORY_PATH_SIZE
        call    file_open
        jc      .done
.line:
        xor     ebp, ebp
.byte:
        lea     edi, [line + ebp]
        mov     ecx, 1
        call    file_read
        jc      .end
        test    eax, eax
        jz      .end
        cmp     byte ptr [line + ebp], 10
        je      .whole
        cmp     ebp, LINE_SIZE - 1
        adc     ebp, 0
        jmp     .byte
.whole:
        mov     byte ptr [line + ebp], 0
        call    remember
        jmp     .line
.end:
        call    file_close
.done:
        mov     byte ptr [line], 0
        ret

; remember: append the line to the history, unless it is empty or the same as the last one.
;   clobbers:  eax, ecx, edx, esi, edi, flags
remember:
        cmp     byte ptr [line], 0
        je      .done
        cmp     dword ptr [history], 0
        je      .done
        mov     eax, [history_count]
        test    eax, eax
        jz      .store
        dec     eax
        call    history_slot
        mov     edi, esi
        mov     esi, line
        call    same_word
        je      .done
.store:
        mov     eax, [history_count]
        call    history_slot
        mov     edi, esi
        mov     esi, line
        mov     ecx, LINE_SIZE
        call    copy_string
        inc     dword ptr [history_count]
.done:
        ret

; history_slot: where a line of the history is kept.
;   in:        eax  its number
;   out:       esi  address
;   clobbers:  eax, flags
history_slot:
        and     eax, HISTORY_SLOTS - 1
        imul    esi, eax, LINE_SIZE
        add     esi, [history]
        ret

; history_older: show the line before.
;   in, out:   ebx  length, edi  cursor
;   clobbers:  eax, ecx, esi, flags
history_older:
        mov     eax, [history_at]
        inc     eax
        cmp     eax, [history_count]
        ja      history_show.done
        cmp     eax, HISTORY
        ja      history_show.done
        jmp     history_show

; history_newer: show the line after; after the newest an empty one.
;   in, out, clobbers: as history_older
history_newer:
        mov     eax, [history_at]
        test    eax, eax
        jz      history_show.done
        dec     eax

; history_show: show a line of the history.
;   in:        eax  how many lines back, 0 = an empty one
;   out:       ebx  length, edi  cursor
history_show:
        mov     [history_at], eax
        mov     byte ptr [line], 0
        test    eax, eax
        jz      .shown
        neg     eax
        add     eax, [history_count]
        call    history_slot
        mov     edi, line
        mov     ecx, LINE_SIZE
        call    copy_string
.shown:
        mov     esi, line
        call    length
        mov     ebx, ecx
        mov     edi, ecx
.done:
        ret

        .rodata
history_path:
        .ascii  "/rom/history"
HISTORY_PATH_SIZE = $ - history_path
        .bss
        .align 4
history_count:
        .space  4
history_at:
        .space  4
history:
        .space  4
history_file:
        .space  sizeof(File)
        .text
