; A server that answers every request with an object of BYTES bytes at BASE.

        .include "attack.inc"

start:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        mov     dword ptr [ebx + Message.eflags], 0
        mov     dword ptr [ebx + Message.data], BASE
        mov     dword ptr [ebx + Message.data + 4], BYTES
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_OBJECT
        jmp     .next
