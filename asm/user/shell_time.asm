; time.

; command_time: `time COMMAND`: run it, then show what it cost.
;   out:       eax  status of the command
command_time:
        mov     edi, before
        SYSTEM  LEDGER

        ; Drop the first word.
        dec     dword ptr [word_count]
        mov     ecx, [word_count]
        mov     esi, words + 4
        mov     edi, words
        rep     movsd
        call    run_words
        push    eax
        call    flush
        mov     edi, after
        SYSTEM  LEDGER
        xor     ebp, ebp
.row:
        mov     eax, [after + ebp * 8]
        mov     edx, [after + ebp * 8 + 4]
        sub     eax, [before + ebp * 8]
        sbb     edx, [before + ebp * 8 + 4]
        mov     ecx, 14
        call    put_decimal
        call    put_space
        mov     esi, [ledger_words + ebp * 4]
        call    put_line
        inc     ebp
        cmp     ebp, LEDGER_WORDS
        jb      .row
        pop     eax
        ret

        .rodata
ledger_0:
        .asciz  "guest instructions"
ledger_1:
        .asciz  "  in ring 0"
ledger_2:
        .asciz  "  in ring 3"
ledger_3:
        .asciz  "host calls"
ledger_4:
        .asciz  "CR3 loads"
ledger_5:
        .asciz  "page-table writes"
ledger_6:
        .asciz  "TLB invalidations"
ledger_7:
        .asciz  "ring changes"
ledger_8:
        .asciz  "exceptions"
ledger_9:
        .asciz  "interrupts"
ledger_10:
        .asciz  "bytes by DMA"
ledger_11:
        .asciz  "bytes of file data by CPU"
ledger_12:
        .asciz  "blocking waits"
ledger_13:
        .asciz  "requests"
        .align 4
; In the order of LedgerInformation.
ledger_words:
        .long   ledger_0, ledger_1, ledger_2, ledger_3, ledger_4, ledger_5, ledger_6
        .long   ledger_7, ledger_8, ledger_9, ledger_10, ledger_11, ledger_12, ledger_13
LEDGER_WORDS = ($ - ledger_words) / 4
        .assert LEDGER_WORDS == sizeof(LedgerInformation) / 8, "ledger_words and LedgerInformation differ"
        .bss
        .align 8
before:
        .space  sizeof(LedgerInformation)
after:
        .space  sizeof(LedgerInformation)
        .text
