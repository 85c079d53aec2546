; Reading a caller's memory.  The address comes from ring 3: it is checked against the end of user
; space, and a fault during the copy resumes at `fault_resume` instead of being the kernel's.

; copy_path: copy the path of a system call into the thread's path page, terminated.
;   in:        fs   thread; frame  GateFrame with esi = address, ecx = bytes
;   out:       CF=0  path_page holds ecx bytes and a zero       CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, esi, edi, flags
;   state:     ring 0, any IF; DS and ES flat
;   leaves by: ret
copy_path:
        mov     edx, fs:[ThreadControlBlock.frame]
        mov     esi, [edx + GateFrame.esi]
        mov     ecx, [edx + GateFrame.ecx]
        mov     eax, ErrorCode.NAME_TOO_LONG
        cmp     ecx, MESSAGE_DATA_SIZE
        jae     .fail

        ; No wrap: ECX is small, so the sum cannot pass 4 GiB unless ESI is in kernel space already.
        mov     eax, ErrorCode.BAD_ADDRESS
        cmp     esi, USER_END
        jae     .fail
        lea     edi, [esi + ecx]
        cmp     edi, USER_END
        ja      .fail

        mov     edi, fs:[ThreadControlBlock.path_page]
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], .fail
        rep     movsb
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        mov     byte ptr [edi], 0
        clc
        ret

.fail:
        ; After a fault EAX is still BAD_ADDRESS: MOVSB leaves it alone.
        mov     dword ptr fs:[ThreadControlBlock.fault_resume], 0
        stc
        ret
