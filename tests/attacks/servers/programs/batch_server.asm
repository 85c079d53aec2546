; A server that answers batches in a way that HOW says, and every other request with all registers inverted.
;   0   writes all ones over the whole page, but for CF
;   1 to 5   sends the reply of that ServerCall, with data that it allows: none, registers, data, object, sectors
;   6   fails with IO_ERROR
;   7   does not know the operation
;   8   never answers: it waits for the next request with the first one kept

        .include "system.inc"

start:
        mov     ecx, PAGE_SIZE
        SYSTEM  ALLOCATE
        mov     [page], eax
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        mov     ebp, ebx
        cmp     dword ptr [ebp + Message.operation], Operation.BATCH
        je      .batch
        not     dword ptr [ebp + Message.eax]
        not     dword ptr [ebp + Message.ebx]
        not     dword ptr [ebp + Message.ecx]
        not     dword ptr [ebp + Message.edx]
        not     dword ptr [ebp + Message.esi]
        not     dword ptr [ebp + Message.edi]
.good:
        mov     dword ptr [ebp + Message.eflags], 0
.registers:
        mov     eax, ServerCall.REPLY_REGISTERS
.reply:
        mov     ebx, [ebp + Message.handle]
        jmp     .next

.batch:
    .if HOW == 0
        mov     ebx, [ebp + Message.handle]
        mov     edi, ebp
        mov     ecx, PAGE_SIZE / 4
        mov     eax, -1
        rep     stosd
        mov     dword ptr [ebp + Message.eflags], -2
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next
    .elif HOW <= ServerCall.REPLY_SECTORS
        mov     eax, [page]
        mov     [ebp + Message.data], eax
        mov     dword ptr [ebp + Message.data + 4], PAGE_SIZE
        mov     dword ptr [ebp + Message.count], 8
        mov     dword ptr [ebp + Message.eflags], 0
        mov     eax, HOW
        jmp     .reply
    .elif HOW == 6
        mov     dword ptr [ebp + Message.eax], ErrorCode.IO_ERROR
        mov     dword ptr [ebp + Message.eflags], 1
        jmp     .registers
    .elif HOW == 7
        mov     dword ptr [ebp + Message.eax], ErrorCode.BAD_CALL
        mov     dword ptr [ebp + Message.eflags], 1
        jmp     .registers
    .else
        mov     eax, ServerCall.WAIT
        jmp     .next
    .endif

broken: ud2

        .bss
        .align 4
page:   .space  4
        .text
