; A server that answers every request with an object of BYTES bytes at BASE.  It has 512 pages of heap to give.

HEAP = 512 * PAGE_SIZE

        .include "attack.inc"

start:
        mov     ecx, HEAP
        SYSTEM  ALLOCATE
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        mov     dword ptr [ebx + Message.eflags], 0
        mov     dword ptr [ebx + Message.data], BASE
        mov     dword ptr [ebx + Message.data + 4], BYTES
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_OBJECT
        jmp     .next
