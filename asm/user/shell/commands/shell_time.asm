; time.

ROW_CALLS = 3

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

; put_difference: append the growth of a counter, and a blank.
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

; put_host_calls: each kind of host call that has been made, three in a row: work that moves into policy must show.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
put_host_calls:
        push    ebp
        xor     edi, edi                ; how many are in the row
        mov     ebx, host_call_names
        mov     ebp, LedgerInformation.host_call / 8
        mov     esi, LedgerInformation.host_call / 8 + HOST_CALL_NAMES
        call    put_calls
        mov     ebx, system_call_names
        mov     ebp, LedgerInformation.system_call / 8
        mov     esi, LedgerInformation.system_call / 8 + SYSTEM_CALL_NAMES
        call    put_calls
        mov     ebx, server_call_names
        mov     ebp, LedgerInformation.server_call / 8
        mov     esi, LedgerInformation.server_call / 8 + SERVER_CALL_NAMES
        call    put_calls
        test    edi, edi
        jz      .done
        mov     esi, row_end
        call    put_line
.done:
        pop     ebp
        ret

; put_calls: those of one table.
;   in:        ebp  index of its first counter in LedgerInformation, esi  that after its last, ebx  names
;              edi  how many are in the row
;   out:       edi  the same
;   clobbers:  eax, ebx, ecx, edx, esi, ebp, flags
put_calls:
        push    esi
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
        cmp     edi, ROW_CALLS
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
        cmp     ebp, [esp]
        jb      .name
        pop     esi
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
ledger_14:
        .asciz  "  to a server thread by a direct switch"
ledger_15:
        .asciz  "replies by a direct switch"
ledger_16:
        .asciz  "requests in batches"
ledger_17:
        .asciz  "handoffs without a host call"
ledger_18:
        .asciz  "bytes of metadata by policy and hosted servers"
ledger_19:
        .asciz  "bytes of programs loaded by policy"
ledger_20:
        .asciz  "bytes of servers' memory by hosted servers"
ledger_21:
        .asciz  "bytes decompressed by hosted servers"
        .align 4
; In the order of LedgerInformation.
ledger_words:
        .long   ledger_0, ledger_1, ledger_2, ledger_3, ledger_4, ledger_5, ledger_6
        .long   ledger_7, ledger_8, ledger_9, ledger_10, ledger_11, ledger_12, ledger_13
        .long   ledger_14, ledger_15, ledger_16, ledger_17, ledger_18, ledger_19, ledger_20, ledger_21
LEDGER_WORDS = ($ - ledger_words) / 4
        .assert LEDGER_WORDS == LedgerInformation.host_call / 8, "ledger_words and LedgerInformation differ"

row_end:
        .asciz  ""
; In the order of HostCall.
host_call_names:
        .asciz  "boot_done", "panic", "schedule", "wake", "handoff", "tick", "yield", "exception", "system", "server"
        .asciz  "resume", "first_use", "slot_wait", "slot_give", "convert", "exit_thread", "disk_done", "input"
        .asciz  "slot_drop", "job", "file_ready", "slot_fail", "disk_changed", "disk_watched", "files_age"
        .asciz  "replied", "", "", "post_releases"  ; two numbers are not calls
HOST_CALL_NAMES = 29
        .assert HostCall.POST_RELEASES - HOST_CALL_FIRST + 1 == HOST_CALL_NAMES, "host_call_names and HostCall differ"
; In the order of SystemCall.
system_call_names:
        .asciz  "system.exit", "system.yield", "system.write", "system.read_character", "system.allocate"
        .asciz  "system.free", "system.start_process", "system.wait_process", "system.kill_process"
        .asciz  "system.start_thread", "system.volume_information", "system.lock_directory"
        .asciz  "system.unlock_directory", "system.open", "system.close", "system.map_file"
        .asciz  "system.process_information", "system.ipc_information", "system.ledger", "system.clock"
        .asciz  "system.sleep", "system.take_break", "system.file_handler", "system.set_directory"
        .asciz  "system.read_link"
SYSTEM_CALL_NAMES = 25
        .assert SystemCall.READ_LINK + 1 == SYSTEM_CALL_NAMES, "system_call_names and SystemCall differ"
; In the order of ServerCall, from SERVER_CALL_FIRST on.
server_call_names:
        .asciz  "server.lock_blocks", "server.unlock_blocks", "server.hosted_step", "server.directory_changed"
SERVER_CALL_NAMES = 4
        .assert ServerCall.DIRECTORY_CHANGED - SERVER_CALL_FIRST + 1 == SERVER_CALL_NAMES, "server_call_names differ"
        .bss
        .align 8
before:
        .space  sizeof(LedgerInformation)
after:
        .space  sizeof(LedgerInformation)
        .text
