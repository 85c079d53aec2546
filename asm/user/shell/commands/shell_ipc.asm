; ipc: the kernel's record of each server's slots, masks and ring.

; command_ipc: `ipc [VOLUME]`.
;   out:       eax  status
command_ipc:
        xor     ebp, ebp
        mov     dword ptr [shown], 0
.next:
        mov     ebx, ebp
        mov     edi, ipc
        SYSTEM  IPC_INFORMATION
        jc      .done
        cmp     dword ptr [word_count], 2
        jb      .show
        mov     esi, [words + 4]
        cmp     byte ptr [esi], '/'
        jne     .compare
        inc     esi
.compare:
        mov     edi, ipc + IpcInformation.name
        call    same_word
        jne     .skip
.show:
        inc     dword ptr [shown]
        call    show_ipc
.skip:
        inc     ebp
        jmp     .next
.done:
        xor     eax, eax
        cmp     dword ptr [shown], 0
        jne     .return
        mov     esi, [words + 4]
        mov     edi, no_volume
        jmp     report_word
.return:
        ret

; show_ipc: one server.
;   in:        ipc
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
show_ipc:
        mov     al, '/'
        call    put_character
        mov     esi, ipc + IpcInformation.name
        call    put_string
        mov     esi, ipc_threads
        mov     eax, [ipc + IpcInformation.threads]
        call    put_count
        mov     esi, ipc_dead
        test    dword ptr [ipc + IpcInformation.flags], EndpointFlags.DEAD
        jz      .alive
        call    put_string
.alive:
        call    newline

        ; A letter a slot, slot 31 first, above the masks.
        mov     esi, ipc_slots
        call    put_string
        mov     ebx, 31
.slot:
        movzx   eax, byte ptr [ipc + IpcInformation.state + ebx]
        bt      [ipc + IpcInformation.unused], ebx
        jnc     .used
        mov     al, UNUSED_LETTER
.used:
        cmp     al, STATE_LETTERS
        jae     .put
        mov     al, [state_letters + eax]
.put:
        call    put_character
        dec     ebx
        jns     .slot
        call    newline
        mov     esi, ipc_unused
        mov     eax, [ipc + IpcInformation.unused]
        call    put_mask
        mov     esi, ipc_free
        mov     eax, [ipc + IpcInformation.free]
        call    put_mask
        mov     esi, ipc_idle
        mov     eax, [ipc + IpcInformation.idle]
        call    put_mask

        mov     esi, ipc_ring
        call    put_string
        mov     eax, [ipc + IpcInformation.head]
        call    put_number
        mov     esi, ipc_tail
        mov     eax, [ipc + IpcInformation.tail]
        call    put_count
        mov     esi, ipc_queued
        mov     eax, [ipc + IpcInformation.tail]
        sub     eax, [ipc + IpcInformation.head]
        call    put_count
        mov     esi, ipc_waiting
        mov     eax, [ipc + IpcInformation.slot_waiters]
        call    put_count
        call    newline
        mov     esi, ipc_requests
        call    put_string
        mov     eax, [ipc + IpcInformation.requests]
        call    put_number
        mov     esi, ipc_fast
        mov     eax, [ipc + IpcInformation.fast]
        call    put_count
        mov     esi, ipc_slow
        mov     eax, [ipc + IpcInformation.requests]
        sub     eax, [ipc + IpcInformation.fast]
        call    put_count
        mov     esi, ipc_replies
        mov     eax, [ipc + IpcInformation.replies]
        call    put_count
        mov     esi, ipc_full
        mov     eax, [ipc + IpcInformation.full_waits]
        call    put_count
        mov     esi, ipc_bad
        mov     eax, [ipc + IpcInformation.bad_replies]
        call    put_count
        mov     esi, ipc_aborted
        mov     eax, [ipc + IpcInformation.aborted]
        call    put_count
        jmp     newline

; put_count: append a text and a number.
;   in:        esi  text, eax  number
;   clobbers:  flags
put_count:
        call    put_string
        jmp     put_number

; put_mask: append a text, 32 bits and a newline.
;   in:        esi  text, eax  mask
;   clobbers:  eax, ecx, edx, flags
put_mask:
        call    put_string
        mov     edx, eax
        mov     ecx, 32
.bit:
        mov     al, '.'
        shl     edx, 1
        jnc     .put
        mov     al, '1'
.put:
        call    put_character
        dec     ecx
        jnz     .bit
        jmp     newline

        .rodata
; Indexed by SlotState; the last one stands for a slot that was never used.
state_letters:
        .ascii  ".tpsdD-"
STATE_LETTERS = $ - state_letters
UNUSED_LETTER = STATE_LETTERS - 1
ipc_threads:
        .asciz  ": server threads "
ipc_dead:
        .asciz  ", DEAD"
ipc_slots:
        .asciz  "  slots  "
ipc_unused:
        .asciz  "  unused "
ipc_free:
        .asciz  "  free   "
ipc_idle:
        .asciz  "  idle   "
ipc_ring:
        .asciz  "  ring   head "
ipc_tail:
        .asciz  ", tail "
ipc_queued:
        .asciz  ", queued "
ipc_waiting:
        .asciz  ", threads waiting for a slot "
ipc_requests:
        .asciz  "  total  requests "
ipc_fast:
        .asciz  " (fast "
ipc_slow:
        .asciz  ", slow "
ipc_replies:
        .asciz  "), replies "
ipc_full:
        .asciz  ", waits for a slot "
ipc_bad:
        .asciz  ", bad replies "
ipc_aborted:
        .asciz  ", aborted "
        .bss
        .align 4
ipc:
        .space  sizeof(IpcInformation)
shown:
        .space  4
        .text
