; System calls of the console: bytes straight between the caller's memory and the serial port.

; system_write: SystemCall.WRITE.
;   in:        [esp]  GateFrame: esi  address, ecx  bytes
;   out:       eax  bytes written
;   leaves by: leave_gate
system_write:
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
        add     esp, 4
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        mov     eax, ErrorCode.BAD_ADDRESS
        jmp     system_fail

; system_read_character: SystemCall.READ_CHARACTER.
;   out:       eax  byte; CF=1, END_OF_INPUT when there will be no more
;   leaves by: leave_gate
system_read_character:
        call    serial_read
        jnc     .byte
        jz      .end
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     exit_thread
        mov     eax, WaitReason.INPUT
        call    block
        jmp     system_read_character

.byte:
        movzx   eax, al
        mov     [esp + GateFrame.eax], eax
        jmp     leave_gate

.end:
        mov     eax, ErrorCode.END_OF_INPUT
        jmp     system_fail
