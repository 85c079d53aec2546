; A server that answers every request by a reply of registers, after it has written into the page that the reply is an
; object of one page, and the physical address of a page of the kernel.

        .include "attack.inc"

KERNELS = 0x100000              ; where the kernel's image lies

start:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        mov     word ptr [ebx + Message.reply], ReplyType.OBJECT
        mov     dword ptr [ebx + Message.count], 1
        mov     dword ptr [ebx + Message.data], KERNELS
        mov     dword ptr [ebx + Message.data + 4], 0
        mov     dword ptr [ebx + Message.ecx], 1
        mov     dword ptr [ebx + Message.edi], 1
        mov     dword ptr [ebx + Message.eflags], 0
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS | HOW
    .if HOW
        call    SELECTOR_SERVER_GATE:0
        mov     eax, ServerCall.WAIT
    .endif
        jmp     .next
