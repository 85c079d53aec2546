; Blocking and switching. Policy decides which thread runs next; this file gives it the CPU.
;
; A thread that does not run has on its kernel stack the eight registers of PUSHAD, EFLAGS and the address
; where it resumes (SwitchFrame).  Policy prepares the same frame for a new thread.  ES and GS are not kept over a wait:
; most threads that wait need neither afterwards, the others load them again.  ES is the kernel's then: another thread's
; selector must be in no segment register where interrupts are on, for that thread may end, and its descriptor goes.

; block: wait until another thread or an interrupt wakes this one.
;   in:        eax  WaitReason
;   out:       woken, or not blocked at all because a wake-up had already come: test your condition again
;   clobbers:  es, gs, flags
;   state:     ring 0, any IF
;   leaves by: ret
block:
        pushfd
        cli
        HOST    SCHEDULE
        jmp     switch

; wake: wake a thread and go on, unless its priority is higher than that of this one.
;   in:        eax  selector of the thread
;   clobbers:  eax, es, gs, flags
;   state:     ring 0, any IF
;   leaves by: ret
wake:
        HOST    WAKE
        cmp     dword ptr [kernel_words + KernelWords.preempt], 0
        jne     yield
        cmp     word ptr [kernel_words + KernelWords.arm_timer], 0
        je      .armed
        call    timer_arm
.armed:
        ret

; yield: let others of the same priority run, or, after an interrupt, a thread of higher priority that has become ready.
;   clobbers:  es, gs, flags
;   state:     ring 0, any IF
yield:
        pushfd
        cli
        HOST    YIELD

; switch: go on with the thread that policy chose (kernel_words.next).
;   in:        [esp]  EFLAGS to restore, then the return address
;   state:     IF=0
;   leaves by: popfd, ret, when this thread is chosen again
switch:
        ; One test for two rare cases: arm_timer, and in the byte after it fpu_live.
        test    dword ptr [kernel_words + KernelWords.arm_timer], 0xffffff
        jne     .rare
.common:
        push    eax
        mov     eax, [kernel_words + KernelWords.next]
        cmp     eax, [kernel_words + KernelWords.current]
        pop     eax
        jne     .other
        popfd
        ret

.rare:
        push    eax
        cmp     word ptr [kernel_words + KernelWords.arm_timer], 0
        je      .armed
        call    timer_arm
.armed:
        cmp     byte ptr [kernel_words + KernelWords.fpu_live], 0
        je      .done
        call    fpu_leave
.done:
        pop     eax
        jmp     .common

.other:
        pushad
.saved:
        mov     fs:[ThreadControlBlock.esp], esp
        mov     eax, [kernel_words + KernelWords.next]
        jmp     switch_resume

; HAND_OVER reason, ask, reload: block this thread, and have the one with selector EAX run in its place, if that one
; sleeps, no other thread is ready, and there is no timer to arm and no x87 or SSE state to lock: then there is nothing to
; choose, and policy need not be asked (`Scheduler.host_handoff`).  Otherwise jump to `ask`, with EFLAGS pushed, or to
; `reload`, where ES has to be loaded besides.  A wake-up from outside (a debugger's kill) may come at any instruction:
; before the store to our state it has left SIGNALLED, after it this thread is ready, and is chosen in its turn.
;   state:     IF=0 afterwards; go on at switch_resume
        .macro HAND_OVER reason, ask, reload
        pushfd
        cli
        cmp     dword ptr [kernel_words + KernelWords.arm_timer], 0
        jne     \ask

        ; The thread may have ended since its selector was noted: its descriptor is gone then, or another thread's.
        verr    ax
        jnz     \ask
        mov     es, eax
        cmp     word ptr es:[ThreadControlBlock.state], ThreadState.BLOCKED
        jne     \reload
        mov     dword ptr fs:[ThreadControlBlock.state], ThreadState.BLOCKED | \reason << 16
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.SIGNALLED
        jnz     \reload
        pushad
        mov     fs:[ThreadControlBlock.esp], esp
        mov     dword ptr es:[ThreadControlBlock.state], ThreadState.RUNNING
        .ledger fast_handoffs
        mov     [kernel_words + KernelWords.next], eax
        .endm

; handoff_for_reply: wake a server thread and wait for its reply, with a single decision about which thread runs next.
; handoff_for_file: the same, and wait for data of a file.
; handoff_for_request: wake a client and wait for a request.
;   in:        eax  selector of the thread to wake; handoff_for_reply: gs  endpoint
;   out:       as block
;   clobbers:  eax, es, gs, flags
;   state:     ring 0, any IF
;   leaves by: ret
handoff_for_reply:
        HAND_OVER WaitReason.REPLY, .ask, .reload
        .ledger blocking_waits
        lock inc dword ptr gs:[Endpoint.blocking_waits]
        jmp     switch_resume
.reload:
        push    ds
        pop     es
.ask:
        or      eax, WaitReason.REPLY << 16
        HOST    HANDOFF
        jmp     switch

handoff_for_file:
        HAND_OVER WaitReason.FILE, .ask, .reload
        .ledger blocking_waits
        jmp     switch_resume
.reload:
        push    ds
        pop     es
.ask:
        or      eax, WaitReason.FILE << 16
        HOST    HANDOFF
        jmp     switch

handoff_for_request:
        HAND_OVER WaitReason.REQUEST, .ask, .reload

; switch_resume: the second half, also the first one's way into a thread that never ran.
;   in:        eax  selector of the thread
switch_resume:
        .frame  like switch.saved
        mov     [kernel_words + KernelWords.current], eax
        mov     fs, eax
        mov     esp, fs:[ThreadControlBlock.esp]
        .frame  like switch.saved
        mov     eax, fs:[ThreadControlBlock.esp0]
        mov     [task_state + TaskState.esp0], eax

        ; Threads of one process share page tables: no reload, no lost TLB.
        mov     eax, fs:[ThreadControlBlock.cr3]
        mov     ebx, cr3
        cmp     eax, ebx
        je      .same_space
        .ledger cr3_loads
        mov     cr3, eax
        mov     eax, fs:[ThreadControlBlock.ldt]
        lldt    ax
.same_space:
        push    ds
        pop     es
        .event  thread.switch to=fs
        popad
        popfd
        ret

        .frame  like switch
handoff_for_request.reload:
        push    ds
        pop     es
handoff_for_request.ask:
        or      eax, WaitReason.REQUEST << 16
        HOST    HANDOFF
        jmp     switch

; switch_first: enter the first thread.
;   in:        kernel_words.next
;   state:     IF=0, no current thread
switch_first:
        mov     eax, [kernel_words + KernelWords.next]
        jmp     switch_resume

; idle: what runs when no thread can.
;   state:     ring 0, IF=1
;   leaves by: never
idle:
        .frame  none
        sti
        hlt
        jmp     idle
