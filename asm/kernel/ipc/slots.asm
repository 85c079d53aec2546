; The 32 message slots of an endpoint: taking one, releasing it.  The masks are shared by all CPUs and
; change by locked instructions only; a slot's bit is in at most one of them, and the thread that clears
; it owns the slot.

; TAKE_FAST slow: the common case of take_slot, in line: no thread waits and a used slot is free.  Continues
; after the macro with ECX = slot, or at `slow`.  Clobbers ECX and flags.
        .macro TAKE_FAST slow
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     \slow
        bsf     ecx, gs:[Endpoint.free]
        jz      \slow
        lock btr dword ptr gs:[Endpoint.free], ecx
        jnc     \slow
        .endm

; RELEASE_FAST give, rescue: the common case of release_slot, in line.  A thread may begin to wait between
; the first test and the setting of the bit, hence the second test.  Clobbers flags.
        .macro RELEASE_FAST give, rescue
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     \give
        lock bts dword ptr gs:[Endpoint.free], ecx
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     \rescue
        .endm

; take_slot: take a message slot of an endpoint in order of arrival; wait while all 32 are busy.
;   in:        gs   endpoint
;   out:       CF=0  ecx  slot index, the slot has a page      CF=1  eax  ErrorCode, no slot
;   clobbers:  eax, ecx, edx, flags
;   state:     ring 0, any IF; safe against every other taker on every CPU
;   leaves by: ret
take_slot:
        ; If other threads wait, queue up after them.
        cmp     dword ptr gs:[Endpoint.slot_waiters], 0
        jne     .queue
        test    dword ptr gs:[Endpoint.flags], EndpointFlags.DEAD
        jnz     .dead
.retry:
        bsf     ecx, gs:[Endpoint.free]
        jz      .fresh
        lock btr dword ptr gs:[Endpoint.free], ecx
        jnc     .retry
        clc
        ret

.fresh:
        ; The first use of a slot gives it a page, a selector and an address in the server.
        bsf     ecx, gs:[Endpoint.unused]
        jz      .queue
        lock btr dword ptr gs:[Endpoint.unused], ecx
        jnc     .retry
        NAME_SLOT
        HOST    FIRST_USE
        cmp     dword ptr fs:[ThreadControlBlock.slot_error], 0
        jne     .no_page
        clc
        ret

.no_page:
        lock bts dword ptr gs:[Endpoint.unused], ecx
        mov     eax, fs:[ThreadControlBlock.slot_error]
        stc
        ret

.queue:
        ; Publish the wait, then have policy look again: a releaser that sees no waiter has set its bit
        ; before, and one that sees a waiter hands the slot over (both instructions are locked, hence fences).
        lock inc dword ptr gs:[Endpoint.slot_waiters]
        lock inc dword ptr gs:[Endpoint.full_waits]
        mov     dword ptr fs:[ThreadControlBlock.slot], -1
        mov     eax, gs:[Endpoint.number]
        shl     eax, 16
        HOST    SLOT_WAIT
.wait:
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED | ThreadFlags.INTERRUPTED
        jnz     .called_off
        mov     ecx, fs:[ThreadControlBlock.slot]
        cmp     ecx, SLOTS
        jb      .given
        cmp     dword ptr fs:[ThreadControlBlock.slot_error], 0
        jne     .refused
        mov     eax, WaitReason.SLOT
        push    gs
        call    block
        pop     gs
        jmp     .wait
.given:
        clc
        ret

.called_off:
        ; Leave the queue, and release a slot that was given to us.  The error code reports the interrupt: clear it.
        lock and dword ptr fs:[ThreadControlBlock.flags], ~ThreadFlags.INTERRUPTED
        mov     eax, gs:[Endpoint.number]
        shl     eax, 16
        or      eax, 1
        HOST    SLOT_WAIT
        mov     ecx, fs:[ThreadControlBlock.slot]
        cmp     ecx, SLOTS
        jae     .refused
        call    release_slot
        mov     eax, ErrorCode.KILLED
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jnz     .none
        mov     eax, ErrorCode.INTERRUPTED
.none:
        stc
        ret

.refused:
        mov     eax, fs:[ThreadControlBlock.slot_error]
        stc
        ret

.dead:
        mov     eax, ErrorCode.SERVER_DIED
        stc
        ret

; release_slot: release a slot, to the thread that has waited longest if there is one.
;   in:        gs   endpoint, ecx  slot index, owned by the caller
;   clobbers:  eax, flags
;   state:     ring 0, any IF; safe against every taker on every CPU
;   leaves by: ret
release_slot:
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.FREE
        RELEASE_FAST .give, .rescue
        ret

.rescue:
        ; Clear the bit again, unless another taker was faster: it will release the slot in its turn.
        lock btr dword ptr gs:[Endpoint.free], ecx
        jnc     .done
.give:
        NAME_SLOT
        HOST    SLOT_GIVE
.done:
        ret
