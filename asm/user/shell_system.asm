; df, vol, ps, time.

; path_volume: find the volume that `path` lies on.
;   out:       CF=0  volume  its VolumeInformation        CF=1  none (the root of everything)
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
path_volume:
        mov     esi, path + 1
        mov     edi, volume_name
        mov     ecx, 15
.byte:
        lodsb
        test    al, al
        jz      .named
        cmp     al, '/'
        je      .named
        stosb
        dec     ecx
        jnz     .byte
        stc
        ret
.named:
        mov     byte ptr [edi], 0

; find_volume: find a volume by its name.
;   in:        volume_name
;   out, clobbers: as path_volume
find_volume:
        xor     ebx, ebx
.next:
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .done
        mov     esi, volume + VolumeInformation.name
        mov     edi, volume_name
        call    same_word
        je      .done
        inc     ebx
        jmp     .next
.done:
        ret


; free_bytes: free space of `volume`.
;   out:       edx:eax  bytes
;   clobbers:  ecx, flags
free_bytes:
        mov     ecx, [volume + VolumeInformation.cluster_bytes]
        mov     eax, [volume + VolumeInformation.free_clusters + 4]
        mul     ecx
        push    eax
        mov     eax, [volume + VolumeInformation.free_clusters]
        mul     ecx
        pop     ecx
        add     edx, ecx
        ret

; command_df: `df`.
;   out:       eax  status
command_df:
        mov     esi, df_head
        call    put_line
        xor     ebp, ebp
.next:
        mov     ebx, ebp
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .done
        mov     al, '/'
        call    put_character
        mov     esi, volume + VolumeInformation.name
        mov     ecx, 9
        call    put_field
        mov     esi, volume + VolumeInformation.file_system
        mov     ecx, 8
        call    put_field
        mov     eax, [volume + VolumeInformation.total_clusters]
        mov     edx, [volume + VolumeInformation.total_clusters + 4]
        mov     ecx, 12
        call    put_decimal
        mov     eax, [volume + VolumeInformation.free_clusters]
        mov     edx, [volume + VolumeInformation.free_clusters + 4]
        call    put_decimal
        mov     eax, [volume + VolumeInformation.cluster_bytes]
        xor     edx, edx
        call    put_decimal
        call    free_bytes
        mov     ecx, 16
        call    put_decimal
        call    newline
        inc     ebp
        jmp     .next
.done:
        xor     eax, eax
        ret

; command_vol: `vol [VOLUME]`, by default the one of the current directory.
;   out:       eax  status
command_vol:
        mov     esi, directory
        cmp     dword ptr [word_count], 2
        jb      .named
        mov     esi, [words + 4]
.named:
        call    resolve_path
        jc      .unknown
        call    path_volume
        jc      .unknown
        mov     esi, vol_volume
        call    put_string
        mov     esi, volume + VolumeInformation.name
        call    put_string
        mov     esi, vol_label
        call    put_string
        mov     esi, volume + VolumeInformation.label
        call    put_line
        mov     esi, vol_serial
        call    put_string
        mov     eax, [volume + VolumeInformation.serial]
        call    put_hex
        mov     esi, vol_system
        call    put_string
        mov     esi, volume + VolumeInformation.file_system
        call    put_line
        xor     eax, eax
        ret
.unknown:
        mov     eax, ErrorCode.NOT_FOUND
        mov     esi, path
        jmp     report

; command_ps: `ps`.
;   out:       eax  status
command_ps:
        mov     esi, ps_head
        call    put_line
        xor     ebp, ebp
.next:
        mov     ebx, ebp
        mov     edi, process
        SYSTEM  PROCESS_INFORMATION
        jc      .done
        mov     eax, [process + ProcessInformation.process]
        xor     edx, edx
        mov     ecx, 4
        call    put_decimal
        mov     eax, [process + ProcessInformation.thread]
        mov     ecx, 5
        call    put_decimal
        mov     eax, [process + ProcessInformation.priority]
        call    put_decimal
        call    put_space
        call    put_space
        call    put_state
        mov     eax, [process + ProcessInformation.instructions]
        mov     edx, [process + ProcessInformation.instructions + 4]
        mov     ecx, 14
        call    put_decimal
        mov     eax, [process + ProcessInformation.pages]
        xor     edx, edx
        mov     ecx, 7
        call    put_decimal
        call    put_space
        call    put_space
        mov     esi, process + ProcessInformation.name
        call    put_line
        inc     ebp
        jmp     .next
.done:
        xor     eax, eax
        ret

; put_state: append what a thread does, in words.
;   in:        process
;   clobbers:  eax, ecx, esi, flags
put_state:
        mov     eax, [process + ProcessInformation.state]
        cmp     eax, ThreadState.BLOCKED
        je      .blocked
        cmp     eax, STATE_WORDS
        jae     .done
        mov     esi, [state_words + eax * 4]
        jmp     .put
.blocked:
        mov     eax, [process + ProcessInformation.wait_reason]
        cmp     eax, REASON_WORDS
        jae     .done
        mov     esi, [reason_words + eax * 4]
.put:
        mov     ecx, 18
        call    put_field
.done:
        ret

; command_time: `time COMMAND`: run it, then show what it cost.
;   out:       eax  status of the command
command_time:
        cmp     dword ptr [word_count], 2
        jb      .usage
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
.usage:
        mov     esi, time_usage
        call    put_line
        mov     eax, STATUS_USAGE
        ret

        .rodata
df_head:
        .asciz  "volume    system      clusters        free   bytes each      bytes free"
vol_volume:
        .asciz  "volume /"
vol_label:
        .asciz  ", label "
vol_serial:
        .asciz  "serial number "
vol_system:
        .asciz  ", file system "
ps_head:
        .asciz  " pid  tid prio  state               instructions  pages  name"
time_usage:
        .asciz  "usage: time COMMAND"
state_ready:
        .asciz  "ready"
state_running:
        .asciz  "running"
reason_nothing:
        .asciz  "blocked"
reason_reply:
        .asciz  "waits for a reply"
reason_slot:
        .asciz  "waits for a slot"
reason_request:
        .asciz  "waits for work"
reason_disk:
        .asciz  "waits for a disk"
reason_input:
        .asciz  "waits for input"
reason_child:
        .asciz  "waits for a child"
reason_sleep:
        .asciz  "sleeps"
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
state_words:
        .long   state_ready, state_running
STATE_WORDS = ($ - state_words) / 4
; Indexed by WaitReason.
reason_words:
        .long   reason_nothing, reason_reply, reason_slot, reason_request
        .long   reason_disk, reason_input, reason_child, reason_sleep
REASON_WORDS = ($ - reason_words) / 4
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
process:
        .space  sizeof(ProcessInformation)
volume_name:
        .space  16
        .text
