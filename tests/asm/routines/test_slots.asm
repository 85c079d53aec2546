; The slots and the ring of an endpoint, routine by routine, with their budgets.
        .include "macros.inc"
        .include "slots.asm"
        .include "ring.asm"

ENDPOINT = 0x10000
THREAD = 0x12000

; block: take_slot calls it to wait; here a releasing thread hands over slot 7 at once.
block:  mov     dword ptr fs:[ThreadControlBlock.slot], 7
        ret

;@ case the lowest free slot is taken
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: free = 0x6, unused = 0xfffffff8
;@   set     ebx = 0x1234, esi = 7
;@   call    take_slot
;@   expect  ecx = 1, CF = 0, instructions <= 10, host_calls = 0
;@   expect  Endpoint at ENDPOINT: free = 0x4, unused = 0xfffffff8, slot_waiters = 0
;@   expect  unchanged ebx, esi, edi, ebp, esp

;@ case the first use of a slot asks policy for a page
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: free = 0, unused = 0xfffffff8, number = 2
;@   host    FIRST_USE: ebx = 0x77
;@   call    take_slot
;@   expect  ecx = 3, CF = 0, eax = 0x20003, ebx = 0x77, host_calls = 1, host_calls.first_use = 1
;@   expect  Endpoint at ENDPOINT: unused = 0xfffffff0

;@ case a slot without a page is released and the caller has the error
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: unused = 0xfffffff8
;@   host    FIRST_USE: ThreadControlBlock at THREAD: slot_error = ErrorCode.NO_MEMORY
;@   call    take_slot
;@   expect  CF = 1, eax = ErrorCode.NO_MEMORY
;@   expect  Endpoint at ENDPOINT: unused = 0xfffffff8, free = 0

;@ case a dead endpoint gives no slot
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: free = 0x6, flags = EndpointFlags.DEAD
;@   call    take_slot
;@   expect  CF = 1, eax = ErrorCode.SERVER_DIED, instructions <= 8, host_calls = 0
;@   expect  Endpoint at ENDPOINT: free = 0x6

;@ case a thread that finds all slots busy waits and is given one
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: free = 0, unused = 0
;@   host    SLOT_WAIT
;@   call    take_slot
;@   expect  CF = 0, ecx = 7, host_calls = 1
;@   expect  Endpoint at ENDPOINT: slot_waiters = 1, full_waits = 1

;@ case a released slot is free again
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: free = 0x1, state[5] = SlotState.DONE
;@   set     ecx = 5
;@   call    release_slot
;@   expect  Endpoint at ENDPOINT: free = 0x21, state[5] = SlotState.FREE
;@   expect  instructions <= 7, host_calls = 0
;@   expect  unchanged ecx, edx, ebx

;@ case a released slot is given to the thread that waits
;@   segment gs = ENDPOINT, fs = THREAD
;@   place   Endpoint at ENDPOINT: slot_waiters = 1, number = 1
;@   host    SLOT_GIVE
;@   set     ecx = 5
;@   call    release_slot
;@   expect  Endpoint at ENDPOINT: free = 0
;@   expect  eax = 0x10005, host_calls.slot_give = 1, host_calls = 1

;@ case a post writes slot and lap into its ticket's cell
;@   segment gs = ENDPOINT
;@   place   Endpoint at ENDPOINT: tail = 0x61, head = 0x60
;@   set     ecx = 9
;@   call    post_slot
;@   expect  Endpoint at ENDPOINT: tail = 0x62, ring[1] = 0x69, state[9] = SlotState.POSTED
;@   expect  instructions <= 9, host_calls = 0

;@ case a fetch takes the oldest index
;@   segment gs = ENDPOINT
;@   place   Endpoint at ENDPOINT: head = 0x20, tail = 0x22, ring[0] = 0x25, ring[1] = 0x26
;@   call    fetch_slot
;@   expect  CF = 0, ecx = 5, instructions <= 14, host_calls = 0
;@   expect  Endpoint at ENDPOINT: head = 0x21, tail = 0x22

;@ case a cell of the previous lap is not published
;@   segment gs = ENDPOINT
;@   place   Endpoint at ENDPOINT: head = 0x20, tail = 0x21, ring[0] = 0x05
;@   call    fetch_slot
;@   expect  CF = 1, instructions <= 12
;@   expect  Endpoint at ENDPOINT: head = 0x20
