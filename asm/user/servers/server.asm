; The runtime of native servers: wait, load registers, call the handler, save registers, reply and wait.
;
; A server includes this file and defines `operations`, a table of handlers, and OPERATIONS, its length.
; A handler is called with the request's registers and EBP = its message page; it returns the reply's
; registers and flags, and EBP = the ServerCall that sends them.  A thread's stack has room for a batch: 1 KiB and
; what its handlers need.  A table that is longer than Operation.BATCH has `operation_batch` there.

        .include "../../include/system.inc"

; serve: the whole life of a server thread.
;   in:        esp  a stack
;   state:     ring 3
;   leaves by: never
serve:
        mov     eax, ServerCall.WAIT
        jmp     .gate

.known:
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
.gate:
        call    SELECTOR_SERVER_GATE:0

        ; EBX is the linear address of the request's page.
        push    ebx
        mov     ebp, ebx
        mov     eax, [ebp + Message.operation]
        cmp     eax, OPERATIONS
        jb      .known
.unknown:
        cmp     eax, Operation.BATCH
        je      serve_batch

        ; The registers go back as they came: those of this thread tell of its memory and of earlier requests.
        mov     ebx, [ebp + Message.ebx]
        mov     ecx, [ebp + Message.ecx]
        mov     edx, [ebp + Message.edx]
        mov     esi, [ebp + Message.esi]
        mov     edi, [ebp + Message.edi]
        mov     eax, ErrorCode.BAD_CALL
        mov     ebp, ServerCall.REPLY_REGISTERS
        stc
        jmp     .save

; operation_batch: the handler of Operation.BATCH, for a table that goes so far.
operation_batch:
        add     esp, 8

; serve_batch: serve the entries of a batch, one after the other, each as a request of its own without data.  Of a reply
; registers and flags are kept, whatever call would have sent it.  A handler may write into the data part of the page, so
; the entries are kept on the stack.
;   in:        ebp  message page of Operation.BATCH, [esp]  the same
;   leaves by: serve.gate
serve_batch:
        .frame  like serve.unknown
        mov     ecx, [ebp + Message.count]
        shr     ecx, BATCH_ENTRY_SHIFT
        mov     edx, ecx
        sub     esp, BATCH_ENTRIES * sizeof(BatchEntry)
        mov     edi, esp
        lea     esi, [ebp + Message.data]
        shl     ecx, BATCH_ENTRY_SHIFT - 2
        cld                             ; a handler may have left DF set
        rep     movsd

        ; On the stack from here on: the entries left, the message page, the next entry, and after them all entries.
        push    esp
        push    ebp
        push    edx
.entry:
        mov     esi, [esp + 8]
        mov     ebp, [esp + 4]
        mov     eax, [esi + BatchEntry.operation]
        mov     [ebp + Message.operation], eax
        mov     dword ptr [ebp + Message.flags], 0
        cmp     eax, OPERATIONS
        jae     .unknown
        push    dword ptr [operations + eax * 4]
        .event  ipc.load message=ebp
        mov     eax, [esi + BatchEntry.eax]
        mov     ebx, [esi + BatchEntry.ebx]
        mov     ecx, [esi + BatchEntry.ecx]
        mov     edx, [esi + BatchEntry.edx]
        mov     edi, [esi + BatchEntry.edi]
        mov     esi, [esi + BatchEntry.esi]
        .event  ipc.call handler=esp
        call    [esp]
        lea     esp, [esp + 4]
.save:
        mov     ebp, [esp + 8]
        mov     [ebp + BatchEntry.eax], eax
        mov     [ebp + BatchEntry.ebx], ebx
        mov     [ebp + BatchEntry.ecx], ecx
        mov     [ebp + BatchEntry.edx], edx
        mov     [ebp + BatchEntry.esi], esi
        mov     [ebp + BatchEntry.edi], edi
        pushfd
        pop     dword ptr [ebp + BatchEntry.eflags]
        mov     ebp, [esp + 4]
        .event  ipc.save message=ebp
        add     dword ptr [esp + 8], sizeof(BatchEntry)
        dec     dword ptr [esp]
        jnz     .entry

        ; All entries go back into the page.
        pop     edx
        pop     ebp
        pop     ecx
        mov     esi, esp
        sub     ecx, esp
        shr     ecx, 2
        lea     edi, [ebp + Message.data]
        cld
        rep     movsd
        add     esp, BATCH_ENTRIES * sizeof(BatchEntry)
        mov     dword ptr [ebp + Message.eflags], 0
        pop     ebx
        mov     eax, ServerCall.REPLY_REGISTERS
        mov     ebx, [ebp + Message.handle]
        jmp     serve.gate

.unknown:
        mov     eax, ErrorCode.BAD_CALL
        mov     ebx, [esi + BatchEntry.ebx]
        mov     ecx, [esi + BatchEntry.ecx]
        mov     edx, [esi + BatchEntry.edx]
        mov     edi, [esi + BatchEntry.edi]
        mov     esi, [esi + BatchEntry.esi]
        stc
        jmp     .save
