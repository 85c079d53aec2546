; A server that answers with every register inverted; it serves with THREADS threads.

        .include "system.inc"

STACKS = USER_STACK_TOP - 0x1000        ; a quarter of the stack's first page for each of four threads

start:
    .if THREADS > 1
        mov     edi, 1
.another:
        mov     ecx, edi
        shl     ecx, 10
        add     ecx, STACKS
        mov     ebx, serve_inverted
        mov     edx, edi
        SYSTEM  START_THREAD
        jc      broken
        inc     edi
        cmp     edi, THREADS
        jb      .another
    .endif

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

        ; The others shall have their turn in the middle of a request.
    .if THREADS > 1
        push    ebx
        SYSTEM  YIELD
        pop     ebx
    .endif
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next

broken: ud2
