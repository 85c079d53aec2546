; The ring of pending requests: 32 byte-sized slot indexes, any number of producers and consumers.
;
; A ticket numbers the posts.  Cell ticket mod 32 holds slot index + (ticket AND 0E0h): the upper three
; bits are the lap, by which a consumer tells a published index from the one of the lap before.  A
; consumer reads the cell first and then claims the ticket by compare-and-exchange on `head`.  While
; `head` has not moved, at most 32 tickets are pending, each with a slot of its own, so no producer can
; have written the cell again: the value read belongs to the ticket claimed.  Cells are never cleared.

; POST: append slot ECX to the ring.  Clobbers EAX, EDX and flags.
        .macro POST
        mov     byte ptr gs:[Endpoint.state + ecx], SlotState.POSTED
        mov     eax, 1
        lock xadd dword ptr gs:[Endpoint.tail], eax
        mov     edx, eax
        and     eax, RING_LAP_MASK
        and     edx, SLOTS - 1
        or      eax, ecx
        xchg    gs:[Endpoint.ring + edx], al
        .endm

; post_slot: append a slot index to the ring.
;   in:        gs   endpoint, ecx  slot index, filled and owned by the caller
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF; safe against every other producer and consumer on every CPU
;   leaves by: ret
;   The exchange publishes the index and is a fence: a later test of `idle` cannot be executed before it.
post_slot:
        POST
        ret

; fetch_slot: take the oldest published slot index off the ring.
;   in:        gs   endpoint
;   out:       CF=0  ecx  slot index                            CF=1  nothing published
;   clobbers:  eax, ecx, edx, flags
;   state:     ring 0, any IF; safe against every other producer and consumer on every CPU
;   leaves by: ret
fetch_slot:
        mov     eax, gs:[Endpoint.head]
        mov     edx, eax
        and     edx, SLOTS - 1
        movzx   ecx, byte ptr gs:[Endpoint.ring + edx]
        mov     edx, eax
        xor     edx, ecx
        test    dl, RING_LAP_MASK
        jnz     .other_lap
        lea     edx, [eax + 1]
        lock cmpxchg dword ptr gs:[Endpoint.head], edx
        jne     fetch_slot
        and     ecx, SLOTS - 1
        clc
        ret

.other_lap:
        ; Another consumer may have advanced `head`, and a producer filled the cell for the next lap.
        cmp     eax, gs:[Endpoint.head]
        jne     fetch_slot
        stc
        ret
