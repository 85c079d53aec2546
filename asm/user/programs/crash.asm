; Does something that ring 3 must not do, which its argument, a letter, chooses.  Each ends the process, none the
; kernel.  Any other argument is answered by the list of letters, and status 2.

        .include "../../include/system.inc"

start:
        movzx   eax, word ptr [USER_ARGUMENTS] ; the letter and the zero behind it
        mov     edi, choices
        test    al, al
        jz      .unknown
.next:
        cmp     byte ptr [edi], 0
        je      .unknown
        movzx   ecx, byte ptr [edi]
        cmp     eax, ecx
        je      .found
        add     edi, CHOICE_SIZE
        jmp     .next
.found:
        xor     eax, eax
        call    dword ptr [edi + 1]

        ; Still alive: what should have been refused was not.
        xor     ebx, ebx
        SYSTEM  EXIT
.unknown:
        mov     esi, usage
        mov     ecx, USAGE_SIZE
        SYSTEM  WRITE
        mov     ebx, 2
        SYSTEM  EXIT

read_null:
        mov     eax, [eax]
        ret
write_code:
        mov     [start], eax
        ret
read_kernel:
        mov     eax, [KERNEL_BASE]
        ret
clear_interrupts:
        cli
        ret
interrupt_page_fault:
        int     14
        ret
host_call:
        out     HostCall.SCHEDULE, eax
        ret
read_port:
        in      al, 0x40
        ret
run_stack:
        mov     byte ptr [esp - 64], 0xc3
        lea     eax, [esp - 64]
        call    eax
        ret
server_gate:
        call    SELECTOR_SERVER_GATE:0
        ret
kernel_selector:
        mov     eax, SELECTOR_KERNEL_DATA
        mov     ds, eax
        ret
undefined:
        ud2
        ret
divide:
        div     eax
        ret
trap_flag:
        ; The flag survives the gate; the kernel must not be stepped by it.
        pushfd
        or      dword ptr [esp], 0x100
        popfd
        SYSTEM  CLOCK
        ret
halt:
        hlt
        ret

        .rodata
usage:  .ascii  "usage: crash LETTER, which says what ring 3 must not do:\n"
        .ascii  "  r read at 0           w write to code       k read the kernel\n"
        .ascii  "  c CLI                 l HLT                 h a host call\n"
        .ascii  "  p read a port         i INT 14              x run the stack\n"
        .ascii  "  g the server gate     s a kernel selector   u an undefined opcode\n"
        .ascii  "  d divide by zero      t set TF\n"
USAGE_SIZE = $ - usage
        .macro CHOICE letter, routine
        .byte   \letter
        .long   \routine
        .endm
CHOICE_SIZE = 5
choices:
        CHOICE  'r', read_null
        CHOICE  'w', write_code
        CHOICE  'k', read_kernel
        CHOICE  'c', clear_interrupts
        CHOICE  'i', interrupt_page_fault
        CHOICE  'h', host_call
        CHOICE  'p', read_port
        CHOICE  'x', run_stack
        CHOICE  'g', server_gate
        CHOICE  's', kernel_selector
        CHOICE  'u', undefined
        CHOICE  'd', divide
        CHOICE  't', trap_flag
        CHOICE  'l', halt
        .byte   0
