; x87, MMX and SSE registers: one set, which is handed to another thread when that thread uses it (Intel SDM vol. 3,
; "Using the TS flag to control the saving of the x87 FPU and SSE state").  The kernel uses none of them.
;
; fpu_owner is the thread whose registers the CPU holds; every other thread's are in its control block.  CR0.TS is
; clear only while the owner itself runs and has used them since it was switched to: fpu_live says so.

; Have the next use of the registers trap.  Clobbers EAX.
        .macro FPU_LOCK
        mov     eax, cr0
        or      eax, CR0_TS
        mov     cr0, eax
        mov     byte ptr [kernel_words + KernelWords.fpu_live], 0
        .endm

; Load all of the registers from a FloatingPointArea.  Some CPUs, and the emulated one, leave the address of the last
; x87 instruction as it is: FNINIT clears it, so that it does not show what another program has executed.
        .macro FPU_LOAD area
        fninit
        fxrstor \area
        .endm

; trap_7: device not available (#NM).  The current thread uses the registers: it becomes their owner, with the values
; that it left in them or, the first time, with those of FNINIT.
;   in:        [esp]  the CPU's frame
;   state:     IF=0
;   leaves by: trap_return; trap_policy, which panics, if it was the kernel
trap_7:
        .frame  interrupt
        push    0
        push    7
        pushad
        ENTER_KERNEL
        cld
        test    dword ptr [esp + TrapFrame.cs], 3
        jz      trap_policy

        clts
        mov     byte ptr [kernel_words + KernelWords.fpu_live], 1
        mov     eax, fs:[ThreadControlBlock.selector]
        mov     ecx, [kernel_words + KernelWords.fpu_owner]
        cmp     eax, ecx
        je      trap_return

        jecxz   .load
        mov     es, ecx
        fxsave  es:[ThreadControlBlock.fpu]
.load:
        .event  fpu.switch from=ecx to=eax
        .ledger fpu_switches
        FPU_LOAD fs:[ThreadControlBlock.fpu]
        mov     [kernel_words + KernelWords.fpu_owner], eax
        jmp     trap_return

; fpu_leave: the current thread is the owner and about to leave the CPU; if another one runs next, lock.
;   in:        kernel_words.next
;   clobbers:  eax, flags
;   state:     ring 0, IF=0
;   leaves by: ret
fpu_leave:
        mov     eax, [kernel_words + KernelWords.next]
        cmp     eax, [kernel_words + KernelWords.current]
        je      .stays
        FPU_LOCK
.stays:
        ret

; fpu_drop: the current thread ends.  Its selector may be another thread's soon, and its values belong to no thread.
;   clobbers:  eax, flags
;   state:     ring 0, IF=0; the thread does not go back to ring 3
;   leaves by: ret
fpu_drop:
        mov     eax, fs:[ThreadControlBlock.selector]
        cmp     eax, [kernel_words + KernelWords.fpu_owner]
        jne     .other
        clts
        FPU_LOAD [fpu_initial]
        FPU_LOCK
        mov     dword ptr [kernel_words + KernelWords.fpu_owner], 0
.other:
        ret
fpu_end:

        .rodata
        .align 16
fpu_initial:
        .layout FloatingPointArea
        .word   FPU_CONTROL_INITIAL
        .space  FloatingPointArea.mxcsr - 2
        .long   MXCSR_INITIAL
        .space  sizeof(FloatingPointArea) - FloatingPointArea.mxcsr_mask
        .text
