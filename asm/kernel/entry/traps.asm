; Exceptions and interrupts (Intel SDM vol. 3, chapter 7).  Every stub leaves a TrapFrame.

        .macro TRAP vector
trap_\vector:
        .frame  interrupt
        push    0
        push    \vector
        jmp     trap
        .endm

        .macro TRAP_WITH_CODE vector
trap_\vector:
        .frame  interrupt, 4
        push    \vector
        jmp     trap
        .endm

        .macro INTERRUPT vector
trap_\vector:
        .frame  interrupt
        push    0
        push    \vector
        jmp     interrupt
        .endm

        TRAP 0
        TRAP 1
        TRAP 2
        TRAP 3
        TRAP 4
        TRAP 5
        TRAP 6
        ; 7 is in fpu.asm.
        TRAP_WITH_CODE 8
        TRAP 9
        TRAP_WITH_CODE 10
        TRAP_WITH_CODE 11
        TRAP_WITH_CODE 12
        TRAP_WITH_CODE 13
        TRAP_WITH_CODE 14
        TRAP 15
        TRAP 16
        TRAP_WITH_CODE 17
        TRAP 18
        TRAP 19

        INTERRUPT 32
        INTERRUPT 33
        INTERRUPT 34
        INTERRUPT 35
        INTERRUPT 36
        INTERRUPT 37
        INTERRUPT 38
        INTERRUPT 39
        INTERRUPT 40
        INTERRUPT 41
        INTERRUPT 42
        INTERRUPT 43
        INTERRUPT 44
        INTERRUPT 45
        INTERRUPT 46
        INTERRUPT 47

; trap: an exception.  Policy reads the frame, repairs, kills or panics.
;   in:        [esp]  vector, error code, the CPU's frame
;   state:     IF=0
;   leaves by: iretd
trap:
        pushad
        ENTER_KERNEL
        cld

; trap_policy: the same, with everything saved.
;   in:        [esp]  TrapFrame
trap_policy:
        mov     eax, esp
        .event  trap frame=esp
        POLICY  EXCEPTION

; trap_return: back to what was interrupted; a killed thread goes no further than ring 0.
;   in:        [esp]  TrapFrame
trap_return:
        test    dword ptr [esp + TrapFrame.cs], 3
        jz      .kernel
.user:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
.restore:
        LEAVE_KERNEL
        popad
        add     esp, TRAP_CODES_SIZE
        iretd

.kernel:
        ; Past leave_gate's KILLED test the thread may never enter the kernel again, so treat it as if it were in ring 3
        ; and test here.
        ; A direct switch lets interrupts in only before its RETF.
        mov     eax, [esp + TrapFrame.eip]
        cmp     eax, offset ipc_gate.leaving
        je      .user
        cmp     eax, offset server_gate.leaving
        je      .user
        sub     eax, leave_tested
        cmp     eax, leave_end - leave_tested
        jb      .user
        jmp     .restore

; interrupt: a request of the interrupt controllers.
;   in:        [esp]  vector, 0, the CPU's frame
;   state:     IF=0
;   leaves by: trap_return
interrupt:
        pushad
        ENTER_KERNEL
        cld
        mov     eax, [esp + TrapFrame.vector]
        .event  interrupt vector=eax
        call    dword ptr [interrupt_handlers + eax * 4 - VECTOR_IRQ * 4]
        mov     eax, [esp + TrapFrame.vector]
        call    end_of_interrupt

        ; A thread of higher priority than the interrupted one may have been woken.
        cmp     dword ptr [kernel_words + KernelWords.preempt], 0
        je      .stay
        call    yield
.stay:
        cmp     word ptr [kernel_words + KernelWords.arm_timer], 0
        je      trap_return
        call    timer_arm
        jmp     trap_return

        .macro GATE vector, access
        .word   lo16(trap_\vector), SELECTOR_KERNEL_CODE, \access, hi16(trap_\vector)
        .endm

; The interrupt descriptor table.  Interrupt gates throughout: IF is clear until the stub's frame is
; complete.  INT3 and INTO may come from ring 3.
INTERRUPT_GATE = 0x8e00
INTERRUPT_GATE_USER = 0xee00

        .data
        .align 8
idt:
        GATE 0, INTERRUPT_GATE
        GATE 1, INTERRUPT_GATE
        GATE 2, INTERRUPT_GATE
        GATE 3, INTERRUPT_GATE_USER
        GATE 4, INTERRUPT_GATE_USER
        GATE 5, INTERRUPT_GATE
        GATE 6, INTERRUPT_GATE
        GATE 7, INTERRUPT_GATE
        GATE 8, INTERRUPT_GATE
        GATE 9, INTERRUPT_GATE
        GATE 10, INTERRUPT_GATE
        GATE 11, INTERRUPT_GATE
        GATE 12, INTERRUPT_GATE
        GATE 13, INTERRUPT_GATE
        GATE 14, INTERRUPT_GATE
        GATE 15, INTERRUPT_GATE
        GATE 16, INTERRUPT_GATE
        GATE 17, INTERRUPT_GATE
        GATE 18, INTERRUPT_GATE
        GATE 19, INTERRUPT_GATE
        .space  (VECTOR_IRQ - 20) * 8
        GATE 32, INTERRUPT_GATE
        GATE 33, INTERRUPT_GATE
        GATE 34, INTERRUPT_GATE
        GATE 35, INTERRUPT_GATE
        GATE 36, INTERRUPT_GATE
        GATE 37, INTERRUPT_GATE
        GATE 38, INTERRUPT_GATE
        GATE 39, INTERRUPT_GATE
        GATE 40, INTERRUPT_GATE
        GATE 41, INTERRUPT_GATE
        GATE 42, INTERRUPT_GATE
        GATE 43, INTERRUPT_GATE
        GATE 44, INTERRUPT_GATE
        GATE 45, INTERRUPT_GATE
        GATE 46, INTERRUPT_GATE
        GATE 47, INTERRUPT_GATE
        .space  (256 - VECTOR_IRQ - 16) * 8

interrupt_handlers:
        .long   timer_interrupt, spurious, spurious, spurious, serial_interrupt, spurious, spurious, spurious
        .long   spurious, spurious, spurious, ahci_interrupt, spurious, spurious, ide_interrupt, ide_interrupt
        .text
