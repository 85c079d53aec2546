; System calls of the console: bytes straight between the caller's memory and the serial port.

; system_write: SystemCall.WRITE.
;   in:        [esp]  GateFrame: esi  address, ecx  bytes
;   out:       eax  bytes written
;   leaves by: leave_gate
system_write:
        .frame  like leave_gate
        mov     esi, [esp + GateFrame.esi]
        mov     ecx, [esp + GateFrame.ecx]
        mov     [esp + GateFrame.eax], ecx
        test    ecx, ecx
        jz      leave_gate
        mov     eax, ErrorCode.BAD_ADDRESS
        cmp     esi, USER_END
        jae     system_fail
        mov     edx, USER_END
        sub     edx, esi
        cmp     ecx, edx
        ja      system_fail

        ; A page of the caller that is missing ends the call, not the kernel.
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], .fault
        call    serial_write
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        jmp     leave_gate

.fault:
        ; The fault left serial_write's return address on the stack.
        .frame  gate, GateFrame.eip + 4
        add     esp, 4
        .frame  like leave_gate
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        mov     eax, fs:[ThreadControlBlock.fault_error]
        jmp     system_fail

; system_read_character: SystemCall.READ_CHARACTER.  A break reads as the byte that Ctrl-C types.
;   out:       eax  byte; CF=1, END_OF_INPUT when there will be no more
;   leaves by: leave_gate
system_read_character:
        .frame  like leave_gate
        ; Until the wait begins no interrupt may come: it would find no thread to wake.
        cli
.next:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        call    take_break
        je      .break
        call    serial_read
        jnc     .byte
        jz      .end
        mov     eax, fs:[ThreadControlBlock.process]
        cmp     eax, [kernel_words + KernelWords.console_break]
        je      .next
        mov     eax, WaitReason.INPUT
        call    block
        jmp     .next

.break:
        mov     al, END_OF_TEXT

.byte:
        movzx   eax, al
        mov     [esp + GateFrame.eax], eax
        jmp     leave_gate

.end:
        mov     eax, ErrorCode.END_OF_INPUT
        jmp     system_fail

END_OF_TEXT = 3

; system_take_break: SystemCall.TAKE_BREAK.
;   out:       eax  1 if there has been a break for this process since it took the last one, else 0
;   leaves by: leave_gate
system_take_break:
        .frame  like leave_gate
        call    take_break
        sete    al
        movzx   eax, al
        mov     [esp + GateFrame.eax], eax
        jmp     leave_gate

; take_break: take a break that is meant for the current process, once.
;   in:        fs    thread
;   out:       ZF=1 if there was one
;   clobbers:  eax, ecx, flags
;   state:     ring 0, any IF; safe against every other taker
;   leaves by: ret
take_break:
        mov     eax, fs:[ThreadControlBlock.process]
        xor     ecx, ecx
        lock cmpxchg [kernel_words + KernelWords.console_break], ecx
        jne     .none

        ; The thread that it was to end has not been waiting.
        lock and dword ptr fs:[ThreadControlBlock.flags], ~ThreadFlags.INTERRUPTED
        cmp     eax, eax
.none:
        ret
