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
        call    put_difference
        mov     esi, [ledger_words + ebp * 4]
        call    put_line
        cmp     ebp, LedgerInformation.host_calls / 8
        jne     .counted
        call    put_host_calls
.counted:
        inc     ebp
        cmp     ebp, LEDGER_WORDS
        jb      .row
        pop     eax
        ret

; put_difference: append by how much a counter has grown, and a blank.
;   in:        ebp  its index in LedgerInformation
;   clobbers:  eax, ecx, edx, flags
put_difference:
        mov     eax, [after + ebp * 8]
        mov     edx, [after + ebp * 8 + 4]
        sub     eax, [before + ebp * 8]
        sbb     edx, [before + ebp * 8 + 4]
        mov     ecx, 14
        call    put_decimal
        jmp     put_space

; put_host_calls: each kind of host call that has been made, four in a row: work that moves into policy must be seen.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
put_host_calls:
        push    ebp
        mov     ebp, LedgerInformation.host_call / 8
        mov     ebx, host_call_names
        xor     edi, edi                ; how many are in the row
.name:
        mov     eax, [after + ebp * 8]
        sub     eax, [before + ebp * 8]
        jz      .skip
        test    edi, edi
        jz      .first
        push    eax
        mov     al, ','
        call    put_character
        call    put_space
        pop     eax
        call    put_number
        jmp     .put
.first:
        xor     edx, edx
        mov     ecx, 14
        call    put_decimal
.put:
        call    put_space
        mov     esi, ebx
        call    put_string
        inc     edi
        cmp     edi, 4
        jb      .skip
        xor     edi, edi
        mov     esi, row_end
        call    put_line
.skip:
        mov     al, [ebx]
        inc     ebx
        test    al, al
        jnz     .skip
        inc     ebp
        cmp     ebp, LedgerInformation.host_call / 8 + HOST_CALL_NAMES
        jb      .name
        test    edi, edi
        jz      .done
        mov     esi, row_end
        call    put_line
.done:
        pop     ebp
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
        .assert LEDGER_WORDS == LedgerInformation.host_call / 8, "ledger_words and LedgerInformation differ"

row_end:
        .asciz  ""
; In the order of HostCall.
host_call_names:
        .asciz  "boot_done", "panic", "schedule", "wake", "handoff", "tick", "yield", "exception", "system", "server"
        .asciz  "resume", "first_use", "slot_wait", "slot_give", "convert", "exit_thread", "disk_done", "input"
        .asciz  "slot_drop", "job", "file_ready", "slot_fail", "disk_changed", "disk_watched", "files_age"
HOST_CALL_NAMES = 25
        .assert HostCall.FILES_AGE - HOST_CALL_FIRST + 1 == HOST_CALL_NAMES, "host_call_names and HostCall differ"
        .bss
        .align 8
before:
        .space  sizeof(LedgerInformation)
after:
        .space  sizeof(LedgerInformation)
        .text
