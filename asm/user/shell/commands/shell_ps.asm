; ps.

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

        .rodata
ps_head:
        .asciz  " pid  tid prio  state               instructions  pages  name"
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
reason_file:
        .asciz  "waits for file data"
        .align 4
state_words:
        .long   state_ready, state_running
STATE_WORDS = ($ - state_words) / 4
; Indexed by WaitReason.
reason_words:
        .long   reason_nothing, reason_reply, reason_slot, reason_request
        .long   reason_disk, reason_input, reason_child, reason_sleep
        .long   reason_file, reason_reply
REASON_WORDS = ($ - reason_words) / 4
        .bss
        .align 4
process:
        .space  sizeof(ProcessInformation)
        .text
