; The runtime of native servers: wait, load registers, call the handler, save registers, reply and wait.
;
; A server includes this file and defines `operations`, a table of handlers, and OPERATIONS, its length.
; A handler is called with the request's registers and EBP = its message page; it returns the reply's
; registers and flags, and EBP = the ServerCall that sends them.

        .include "../../include/system.inc"

; serve: the whole life of a server thread.
;   in:        esp  a stack
;   state:     ring 3
;   leaves by: never
serve:
        mov     eax, ServerCall.WAIT
.gate:
        call    SELECTOR_SERVER_GATE:0

        ; EBX is the linear address of the request's page.
        push    ebx
        mov     ebp, ebx
        mov     eax, [ebp + Message.operation]
        cmp     eax, OPERATIONS
        jae     .unknown
        push    dword ptr [operations + eax * 4]
        .event  ipc.load message=ebp
        mov     eax, [ebp + Message.eax]
        mov     ebx, [ebp + Message.ebx]
        mov     ecx, [ebp + Message.ecx]
        mov     edx, [ebp + Message.edx]
        mov     esi, [ebp + Message.esi]
        mov     edi, [ebp + Message.edi]
        .event  ipc.call handler=esp
        call    [esp]

        ; LEA drops the handler's address and leaves the flags alone.
        lea     esp, [esp + 4]
.save:
        xchg    ebp, [esp]
        .event  ipc.save message=ebp
        mov     [ebp + Message.eax], eax
        mov     [ebp + Message.ebx], ebx
        mov     [ebp + Message.ecx], ecx
        mov     [ebp + Message.edx], edx
        mov     [ebp + Message.esi], esi
        mov     [ebp + Message.edi], edi
        pushfd
        pop     dword ptr [ebp + Message.eflags]
        pop     eax
        mov     ebx, [ebp + Message.handle]
        jmp     .gate

.unknown:
        mov     eax, ErrorCode.BAD_CALL
        mov     ebp, ServerCall.REPLY_REGISTERS
        stc
        jmp     .save
