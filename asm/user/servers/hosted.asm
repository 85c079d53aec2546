; The stub of hosted servers: handlers are Python coroutines, stepped by the kernel on behalf of this
; thread; what they await is a gate call that this stub makes for them.  As in a native server the six
; registers are loaded from the message and saved into it here; the handler has them in the HostedBlock.

        .include "../../include/system.inc"

; start: a hosted server thread.
;   in:        edi  linear address of the thread's HostedBlock
;   state:     ring 3
;   leaves by: never
start:
        mov     ebp, edi

        ; Message 0 starts the server: it mounts its endpoint.
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
        ; The handler has written data, if there are any, into the page itself.
        test    esi, esi
        jz      .send
        .event  ipc.save message=esi
        mov     eax, [ebp + HostedBlock.eax]
        mov     ebx, [ebp + HostedBlock.ebx]
        mov     ecx, [ebp + HostedBlock.ecx]
        mov     edx, [ebp + HostedBlock.edx]
        mov     [esi + Message.eax], eax
        mov     [esi + Message.ebx], ebx
        mov     [esi + Message.ecx], ecx
        mov     [esi + Message.edx], edx
        mov     eax, [ebp + HostedBlock.esi]
        mov     ebx, [ebp + HostedBlock.edi]
        mov     ecx, [ebp + HostedBlock.eflags]
        mov     [esi + Message.esi], eax
        mov     [esi + Message.edi], ebx
        mov     [esi + Message.eflags], ecx
.send:
        mov     eax, [ebp + HostedBlock.reply]
        mov     ebx, edi
        call    SELECTOR_SERVER_GATE:0
        mov     esi, ebx
        mov     edi, [esi + Message.handle]
        .event  ipc.load message=esi
        mov     eax, [esi + Message.eax]
        mov     ebx, [esi + Message.ebx]
        mov     ecx, [esi + Message.ecx]
        mov     edx, [esi + Message.edx]
        mov     [ebp + HostedBlock.eax], eax
        mov     [ebp + HostedBlock.ebx], ebx
        mov     [ebp + HostedBlock.ecx], ecx
        mov     [ebp + HostedBlock.edx], edx
        mov     eax, [esi + Message.esi]
        mov     ebx, [esi + Message.edi]
        mov     [ebp + HostedBlock.esi], eax
        mov     [ebp + HostedBlock.edi], ebx
        mov     eax, [esi + Message.operation]
        movzx   ecx, word ptr [esi + Message.flags]
        mov     edx, [esi + Message.count]
        mov     [ebp + HostedBlock.operation], eax
        mov     [ebp + HostedBlock.flags], ecx
        mov     [ebp + HostedBlock.count], edx
        mov     [ebp + HostedBlock.message], esi
        .event  ipc.call handler=ebp
        jmp     .step
