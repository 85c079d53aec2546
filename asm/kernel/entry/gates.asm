; The call gate of system calls: how ring 3 enters the kernel (Intel SDM vol. 3, 6.8.3).  The CPU has
; switched to the thread's kernel stack and pushed SS, ESP, CS and EIP; IF is still the caller's.

; system_gate: system calls.
;   in:        eax  SystemCall, arguments in ebx ecx edx esi edi
;   out:       as the call says; CF=1, eax  ErrorCode on failure
;   leaves by: retf to ring 3
system_gate:
        .frame  gate
        pushfd
        pushad
        ENTER_KERNEL
        push    KERNEL_EFLAGS
        popfd
        .ledger client_gates
        .event  gate.system call=eax
        mov     fs:[ThreadControlBlock.frame], esp
        and     dword ptr [esp + GateFrame.eflags], ~CARRY_FLAG
        cmp     eax, SYSTEM_CALLS
        jae     system_policy
        jmp     dword ptr [system_calls + eax * 4]

; system_path: a call that takes a path; it is copied into the thread's own page first.
;   in:        [esp]  GateFrame
system_path:
        .frame  like leave_gate
        call    copy_path
        jc      system_fail

; system_policy: a call that policy answers.  One that has to wait is parked here, not in policy: policy holds nothing
; of it while it sleeps, and it starts anew when woken.
;   in:        [esp]  GateFrame
system_policy:
        mov     eax, [esp + GateFrame.eax]
        POLICY  SYSTEM
        mov     eax, fs:[ThreadControlBlock.wait_again]
        test    eax, eax
        jz      .answered
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        call    block
        jmp     system_policy

.answered:
        ; The call may have woken a thread of higher priority, or started a sleep.
        mov     eax, [kernel_words + KernelWords.preempt]
        or      ax, [kernel_words + KernelWords.arm_timer]
        jz      leave_gate
        call    yield
        jmp     leave_gate

; system_fail: end a call with an error.
;   in:        eax  ErrorCode, [esp]  GateFrame
system_fail:
        mov     [esp + GateFrame.eax], eax
        or      dword ptr [esp + GateFrame.eflags], CARRY_FLAG

; leave_gate: back to ring 3, unless the thread has been killed.
;   in:        [esp]  GateFrame
leave_gate:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
leave_tested:
        jnz     exit_thread
        LEAVE_KERNEL
        popad
        popfd
        retf
leave_end:

        .rodata
        .align 4
; SYSTEM_CALL number: the row of a call, by the facts of SystemCall (kernel/abi/calls.py).  A call that machine
; code answers is named here with its routine.
        .macro SYSTEM_CALL number
        .if SYSTEM_CALLS_WITH_PATH >> \number & 1
        .long   system_path
        .elif SYSTEM_CALLS_OF_POLICY >> \number & 1
        .long   system_policy
        .elif \number == SystemCall.WRITE
        .long   system_write
        .elif \number == SystemCall.READ_CHARACTER
        .long   system_read_character
        .elif \number == SystemCall.TAKE_BREAK
        .long   system_take_break
        .else
        .error "machine code is to answer system call \number, but SYSTEM_CALL names no routine for it"
        .endif
        .endm

; Indexed by SystemCall.
system_calls:
        .rept   SYSTEM_CALLS
        SYSTEM_CALL \+
        .endr
        .text
