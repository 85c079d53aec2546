; The other direction: policy calls the kernel's routines. A host call may be answered by a coroutine; it awaits
; routines of this kernel, which run here as ordinary code of the current thread.

; run_coroutine: run the routines that the thread's coroutine awaits until it has ended.
;   in:        fs    thread, with call_target and call_* filled by policy
;   clobbers:  nothing but flags; results are in call_*, and in what the coroutine writes
;   state:     ring 0, IF as the routines want it
;   leaves by: ret
run_coroutine:
        pushad
        push    es
        push    gs
.next:
        mov     eax, fs:[ThreadControlBlock.call_eax]
        mov     ebx, fs:[ThreadControlBlock.call_ebx]
        mov     ecx, fs:[ThreadControlBlock.call_ecx]
        mov     edx, fs:[ThreadControlBlock.call_edx]
        mov     esi, fs:[ThreadControlBlock.call_esi]
        mov     edi, fs:[ThreadControlBlock.call_edi]
        call    dword ptr fs:[ThreadControlBlock.call_target]
        mov     fs:[ThreadControlBlock.call_eax], eax
        mov     fs:[ThreadControlBlock.call_ebx], ebx
        mov     fs:[ThreadControlBlock.call_ecx], ecx
        mov     fs:[ThreadControlBlock.call_edx], edx
        mov     fs:[ThreadControlBlock.call_esi], esi
        mov     fs:[ThreadControlBlock.call_edi], edi
        pushfd
        pop     dword ptr fs:[ThreadControlBlock.call_eflags]
        mov     dword ptr fs:[ThreadControlBlock.call_target], 0
        HOST    RESUME
        cmp     dword ptr fs:[ThreadControlBlock.call_target], 0
        jne     .next
.end:
        pop     gs
        pop     es
        popad
        ret

; last_routine: run the routine with which a coroutine has ended: policy does not hear of its return.
;   in:        fs    thread: call_eflags  address of the routine; its registers
;              [esp] return address into run_coroutine
;   leaves by: run_coroutine's end
last_routine:
        add     esp, 4
        .frame  like run_coroutine.next
        mov     dword ptr fs:[ThreadControlBlock.call_target], 0
        call    dword ptr fs:[ThreadControlBlock.call_eflags]
        jmp     run_coroutine.end

; policy_thread: body of a kernel thread whose work is one coroutine (mounting, cleaning up).
;   in:        eax  policy's number of the job
;   leaves by: exit_thread
policy_thread:
        .frame  none
        POLICY  JOB
        jmp     exit_thread

; exit_thread: the end of the current thread.
;   leaves by: never; another thread runs
exit_thread:
        .frame  none
        cli
        mov     eax, SELECTOR_KERNEL_DATA
        mov     ds, eax
        mov     fs, word ptr [kernel_words + KernelWords.current]
        call    fpu_drop
        POLICY  EXIT_THREAD
        pushfd
        jmp     switch
policy_end:
