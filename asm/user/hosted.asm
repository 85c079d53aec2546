; The stub of hosted servers: handlers are Python coroutines, stepped by the kernel on behalf of this
; thread; what they await is a gate call that this stub makes for them.

        .include "../include/system.inc"

; start: a hosted server thread.
;   in:        edi  linear address of the thread's HostedBlock
;   state:     ring 3
;   leaves by: never
start:
        mov     ebp, edi

        ; Message 0 starts the server: it mounts its partition.
        xor     esi, esi
        xor     edi, edi

; ESI is the message page being served, EDI its handle.
.step:
        mov     ebx, esi
        mov     eax, ServerCall.HOSTED_STEP
        call    SELECTOR_SERVER_GATE:0
        cmp     eax, HostedGate.DONE
        je      .done
        push    esi
        push    edi
        push    eax
        mov     eax, [ebp + HostedBlock.eax]
        mov     ebx, [ebp + HostedBlock.ebx]
        mov     ecx, [ebp + HostedBlock.ecx]
        mov     edx, [ebp + HostedBlock.edx]
        mov     esi, [ebp + HostedBlock.esi]
        mov     edi, [ebp + HostedBlock.edi]
        cmp     dword ptr [esp], HostedGate.SYSTEM
        jne     .server
        call    SELECTOR_SYSTEM_GATE:0
        jmp     .made
.server:
        call    SELECTOR_SERVER_GATE:0
.made:
        mov     [ebp + HostedBlock.eax], eax
        mov     [ebp + HostedBlock.ebx], ebx
        mov     [ebp + HostedBlock.ecx], ecx
        mov     [ebp + HostedBlock.edx], edx
        mov     [ebp + HostedBlock.esi], esi
        mov     [ebp + HostedBlock.edi], edi
        pushfd
        pop     dword ptr [ebp + HostedBlock.eflags]
        pop     eax
        pop     edi
        pop     esi
        jmp     .step

.done:
        ; The handler has written the reply into the page; the block says how it is sent.
        .event  ipc.save message=esi
        mov     eax, [ebp + HostedBlock.eax]
        mov     ebx, edi
        call    SELECTOR_SERVER_GATE:0
        mov     esi, ebx
        mov     edi, [ebx + Message.handle]
        .event  ipc.load message=esi
        .event  ipc.call handler=ebp
        jmp     .step
