; A server that starts threads until it is refused, and then serves with all of them: every register comes back
; inverted.  No thread uses its stack.

        .include "system.inc"

start:
        mov     ebx, serve_inverted
        mov     ecx, USER_STACK_TOP
        SYSTEM  START_THREAD
        jnc     start
        cmp     eax, ErrorCode.NO_RESOURCES
        jne     broken

serve_inverted:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        not     dword ptr [ebx + Message.eax]
        not     dword ptr [ebx + Message.ebx]
        not     dword ptr [ebx + Message.ecx]
        not     dword ptr [ebx + Message.edx]
        not     dword ptr [ebx + Message.esi]
        not     dword ptr [ebx + Message.edi]
        mov     dword ptr [ebx + Message.eflags], 0
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next

broken: ud2
