; A server with two threads: the first answers each request with a page of its own as an object, the second looks into
; the message page all the while.  If it finds there what only the kernel can have written, it stops the server by UD2.

        .include "attack.inc"

OBJECT = USER_STACK_TOP - PAGE_SIZE

start:
        mov     ebx, watch
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jc      gained
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        mov     dword ptr [ebx + Message.eflags], 0
        mov     dword ptr [ebx + Message.data], OBJECT
        mov     dword ptr [ebx + Message.data + 4], PAGE_SIZE
        mov     [page], ebx
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_OBJECT
        jmp     .next

watch:
        mov     ebx, [page]
        test    ebx, ebx
        jz      .later
        cmp     dword ptr [ebx + Message.data], OBJECT
        jne     gained
        mov     dword ptr [ebx + Message.data], 0
.later:
        SYSTEM  YIELD
        jmp     watch

gained: ud2

        .data
        .align 4
page:   .long   0
