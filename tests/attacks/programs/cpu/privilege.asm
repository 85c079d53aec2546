; Instructions by which ring 3 tries for VM, IOPL, IF, another task, or a vector of the kernel's.

        .include "attack.inc"

        ATTACKS

; IRETD that ignores VM sets neither VM nor IOPL: the flags of its image, IF as it is.
VIRTUAL = 0x23202               ; VM, IOPL 3, IF
IOPL = 0x3000
VM = 0x20000
NESTED = 0x4000
TRAP = 0x100
SERIAL = 0x3f8
MAYBE = 0x100000                ; iterations that outlast many time slices
ROM = 0

; TO_VIRTUAL: what enters virtual-8086 mode from ring 0; goes on at the next instruction.
        .macro TO_VIRTUAL
        xor     eax, eax
        push    eax             ; GS, FS, DS, ES, SS
        push    eax
        push    eax
        push    eax
        push    eax
        mov     eax, esp
        push    eax
        push    VIRTUAL
        mov     eax, cs
        push    eax
        push    .here\@
        iretd
.here\@:
        .endm

; PRIVILEGED: end with GAINED if VM or IOPL is set.
        .macro PRIVILEGED
        pushfd
        pop     eax
        test    eax, VM | IOPL
        jnz     gained
        .endm

virtual_flags:
        TO_VIRTUAL
        PRIVILEGED
        jmp     held

virtual_cli:
        TO_VIRTUAL
        cli
        jmp     $

virtual_out:
        TO_VIRTUAL
        mov     edx, SERIAL
        mov     al, '!'
        out     dx, al
        jmp     gained

virtual_host_call:
        TO_VIRTUAL
        out     HostCall.SCHEDULE, eax
        jmp     gained

virtual_in:
        TO_VIRTUAL
        mov     edx, 0x1f7
        in      al, dx
        jmp     gained

virtual_fault:
        TO_VIRTUAL
        ud2

virtual_page_fault:
        TO_VIRTUAL
        mov     eax, [KERNEL_BASE]
        jmp     gained

virtual_interrupt:
        TO_VIRTUAL
        int     0x20
        jmp     gained

virtual_halt:
        TO_VIRTUAL
        hlt
        jmp     gained

virtual_call:
        TO_VIRTUAL
        SYSTEM  YIELD
        PRIVILEGED
        jmp     held

; virtual_stack: the image lies in the program's code, which cannot be written, and must be as before.
virtual_stack:
        mov     esi, esp
        mov     esp, image
        iretd
.returned:
        mov     esp, esi
        PRIVILEGED
        cmp     dword ptr [image + 8], VIRTUAL
        jne     gained
        jmp     held

; virtual_prefix: with prefixes that change nothing.
virtual_prefix:
        push    VIRTUAL
        mov     eax, cs
        push    eax
        push    .returned
        .byte   0x2e, 0x3e, 0xf2
        iretd
.returned:
        PRIVILEGED
        jmp     held

; virtual_kernel: VM does not spare the checks of CS.
virtual_kernel:
        push    VIRTUAL
        push    SELECTOR_KERNEL_CODE
        push    gained
        iretd

; virtual_loop: again and again, over time slices, with interrupts between.
virtual_loop:
        mov     ecx, 3000
.next:
        push    VIRTUAL
        mov     eax, cs
        push    eax
        push    .returned
        iretd
.returned:
        PRIVILEGED
        dec     ecx
        jnz     .next
        jmp     held

iopl_by_popfd:
        push    IOPL | 0x202
        popfd
        PRIVILEGED
        cli
        jmp     $

iopl_by_popf:
        pushfd
        or      dword ptr [esp], IOPL
        .byte   0x66
        popfd
        push    eax
        PRIVILEGED
        jmp     held

iopl_by_iretd:
        push    IOPL | 0x202
        mov     eax, cs
        push    eax
        push    .returned
        iretd
.returned:
        PRIVILEGED
        sti
        jmp     gained

; interrupts_off: IF cleared by POPFD and by IRETD stays set: the time slice still ends.
interrupts_off:
        push    2
        popfd
        push    2
        mov     eax, cs
        push    eax
        push    .returned
        iretd
.returned:
        pushfd
        pop     eax
        test    eax, 0x200
        jz      gained
        jmp     held

nested_task:
        push    NESTED | 0x202
        popfd
        push    0x202
        mov     eax, cs
        push    eax
        push    gained
        iretd

nested_virtual_task:
        push    NESTED | 0x202
        popfd
        TO_VIRTUAL
        jmp     gained

; nested_call: NT goes through gates and faults, and comes back.
nested_call:
        push    NESTED | 0x202
        popfd
        SYSTEM  YIELD
        mov     ecx, MAYBE
        loop    $
        pushfd
        pop     eax
        test    eax, NESTED
        jz      gained
        jmp     held

double_fault:
        int     8
        jmp     gained

invalid_opcode:
        int     6
        jmp     gained

int1:
        .byte   0xf1
        jmp     gained

task_segment:
        call    SELECTOR_TSS:0
        jmp     gained

task_segment_ring_3:
        jmp     SELECTOR_TSS | 3:0

kernel_code:
        call    SELECTOR_KERNEL_CODE:gained
        jmp     gained

far_return:
        push    SELECTOR_KERNEL_CODE
        push    gained
        retf

stack_segment:
        mov     eax, SELECTOR_KERNEL_DATA
        mov     ss, eax
        jmp     gained

locked_load:
        xor     eax, eax
        .byte   0xf0, 0x03, 0x04, 0x24          ; lock add eax, [esp]
        jmp     gained

; locked_bit_test, locked_bit_test_later: what the emulator's translator cannot translate, first and after other code.
locked_bit_test:
        .byte   0xf0, 0x0f, 0xa3, 0xc0          ; lock bt eax, eax
        jmp     gained

locked_bit_test_later:
        mov     ecx, MAYBE
        loop    $
        SYSTEM  YIELD
        push    eax
        pop     ebx
        .byte   0xf0, 0x0f, 0xba, 0xe0, 3       ; lock bt eax, 3
        jmp     gained

; trap_in_gate, trap_in_request: TF comes back from a gate, and its trap with it.
trap_in_gate:
        mov     eax, SystemCall.YIELD
        push    TRAP | 0x202
        popfd
        call    SELECTOR_SYSTEM_GATE:0
trap_in_gate_after:
        jmp     gained

trap_in_request:
        mov     ebp, ROM << 16 | Operation.NULL
        push    TRAP | 0x202
        popfd
        call    SELECTOR_IPC_GATE:0
trap_in_request_after:
        jmp     gained

; write_kernel, write_kernel_by_memory: a far CALL pushes to the kernel's pages.
write_kernel:
        mov     esp, KERNEL_BASE + PAGE_SIZE
        call    SELECTOR_USER_CODE:gained

write_kernel_by_memory:
        mov     esp, KERNEL_BASE + PAGE_SIZE
        .byte   0xff, 0x1d              ; call far [pointer]
        .long   pointer
        jmp     gained

; write_code: a far CALL pushes to the program's own code.
write_code:
        mov     esp, write_code
        call    SELECTOR_USER_CODE:gained

; read_kernel_by_retf, read_kernel_by_iretd: CS of the kernel's memory would be the fault's error code.
read_kernel_by_retf:
        mov     esp, KERNEL_BASE + PAGE_SIZE
        retf

read_kernel_by_iretd:
        mov     esp, KERNEL_BASE + PAGE_SIZE
        iretd

; far_call_on_new_stack: pushes to a page of the stack that is not there yet: it is given.
far_call_on_new_stack:
        lea     esp, [esp - 3 * PAGE_SIZE]
        call    SELECTOR_USER_CODE:held

; far_calls: of every kind, where they are allowed.
far_calls:
        mov     ecx, 1000
.next:
        call    SELECTOR_USER_CODE:.far
        .byte   0xff, 0x1d
        .long   here
        dec     ecx
        jnz     .next
        jmp     held
.far:
        retf

; every_vector: INT n, n being the second byte of the argument.
every_vector:
        movzx   eax, byte ptr [USER_ARGUMENTS + 1]
        lea     eax, [vectors + eax * 4]
        jmp     eax

        .align 4
vectors:
        .rept   256
        .byte   0xcd, ($ - vectors) / 4, 0xcd, 0x80        ; and INT 80h, which must not be reached
        .endr

        .align 4
pointer:
        .long   gained
        .word   SELECTOR_USER_CODE, 0
here:   .long   far_calls.far
        .word   SELECTOR_USER_CODE, 0
image:  .long   virtual_stack.returned, SELECTOR_USER_CODE, VIRTUAL
        .rodata
        .align 4
attacks:
        .long   virtual_flags, virtual_cli, virtual_out, virtual_host_call
        .long   virtual_in, virtual_fault, virtual_page_fault, virtual_interrupt
        .long   virtual_halt, virtual_call, virtual_stack, virtual_prefix
        .long   virtual_kernel, virtual_loop, iopl_by_popfd, iopl_by_popf
        .long   iopl_by_iretd, interrupts_off, nested_task, nested_virtual_task
        .long   nested_call, double_fault, invalid_opcode, int1
        .long   task_segment, task_segment_ring_3, kernel_code, far_return
        .long   stack_segment, locked_load, locked_bit_test, locked_bit_test_later
        .long   trap_in_gate, trap_in_request
        .long   write_kernel, write_kernel_by_memory, write_code
        .long   read_kernel_by_retf, read_kernel_by_iretd, far_call_on_new_stack, far_calls
        .long   every_vector
COUNT = ($ - attacks) / 4
