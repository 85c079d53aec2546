; A server that breaks the rules, a way for each operation; it dies by UD2 if the kernel lets it.
;
; Between the attacks it serves: every register comes back inverted.

        .include "system.inc"

FIRST = OPERATION_SERVER_DEFINED

start:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      allowed
        mov     ebp, ebx
        mov     esi, [ebp + Message.operation]
        sub     esi, FIRST
        cmp     esi, ATTACKS
        jae     allowed
        not     dword ptr [ebp + Message.eax]
        not     dword ptr [ebp + Message.ebx]
        not     dword ptr [ebp + Message.ecx]
        not     dword ptr [ebp + Message.edx]
        not     dword ptr [ebp + Message.esi]
        not     dword ptr [ebp + Message.edi]
        mov     dword ptr [ebp + Message.eflags], 0
        mov     edi, [ebp + Message.handle]
        call    dword ptr [attacks + esi * 4]
        mov     ebx, edi
        jmp     .next

; allowed: the kernel has let something pass that it must refuse, or refused what is right.
allowed:
        ud2

; Every attack is called with EBP = message page, EDI = its handle, and returns EAX = how to reply.

honest: mov     eax, ServerCall.REPLY_REGISTERS
        ret

; reply_twice: the second reply must be refused.
reply_twice:
        mov     ebx, edi
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      allowed
        mov     ebx, edi
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    must_be_refused
        mov     eax, ServerCall.WAIT
        ret

; forge_handles: other slots, other generations, nonsense; then the right one.
forge_handles:
        lea     ebx, [edi + (1 << HANDLE_GENERATION_SHIFT)]
        call    forge
        lea     ebx, [edi - (1 << HANDLE_GENERATION_SHIFT)]
        call    forge
        mov     ebx, edi
        xor     ebx, 1
        call    forge
        mov     ebx, edi
        or      ebx, HANDLE_SLOT_MASK
        call    forge
        mov     ebx, SLOTS
        call    forge
        mov     ebx, -1
        call    forge
        mov     eax, ServerCall.REPLY_REGISTERS
        ret

; replay: the handle of the request before, which had the same slot and the same thread.
replay: mov     ebx, [last]
        mov     [last], edi
        mov     eax, ServerCall.REPLY_REGISTERS
        test    ebx, ebx
        jnz     .old
        cmp     dword ptr [seen], 0
        mov     dword ptr [seen], 1
        je      .first
.old:
        call    must_be_refused
        mov     eax, ServerCall.REPLY_REGISTERS
.first:
        ret

forge:  mov     eax, ServerCall.REPLY_REGISTERS
        push    ebx
        call    must_be_refused
        pop     ebx
        mov     eax, ServerCall.REPLY_SECTORS
        jmp     must_be_refused

; must_be_refused: make a server call; it must fail with BAD_HANDLE.
must_be_refused:
        call    SELECTOR_SERVER_GATE:0
        jnc     allowed
        cmp     eax, ErrorCode.BAD_HANDLE
        jne     allowed
        ret

; write_afterwards: the page must be out of reach once the reply is made.
write_afterwards:
        mov     ebx, edi
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        mov     dword ptr [ebp + Message.eax], 0
        jmp     allowed

; scribble: everything in the page is garbage, flags that matter included.
scribble:
        push    edi
        mov     edi, ebp
        mov     ecx, PAGE_SIZE / 4
        mov     eax, -1
        rep     stosd
        pop     edi
        mov     eax, ServerCall.REPLY_REGISTERS
        ret

; promise_data: more bytes than a message holds.
promise_data:
        mov     dword ptr [ebp + Message.count], -1
        mov     eax, ServerCall.REPLY_DATA
        ret

; give_kernel_pages, give_a_physical_address: objects that are not the server's.
give_kernel_pages:
        mov     dword ptr [ebp + Message.data], KERNEL_BASE
        mov     dword ptr [ebp + Message.data + 4], PAGE_SIZE
        mov     eax, ServerCall.REPLY_OBJECT
        ret

give_own_message:
        mov     [ebp + Message.data], ebp
        mov     dword ptr [ebp + Message.data + 4], PAGE_SIZE
        mov     eax, ServerCall.REPLY_OBJECT
        ret

; give_sectors: of an endpoint that it has not, and more than fit.
give_sectors:
        mov     dword ptr [ebp + Message.count], 1
        mov     dword ptr [ebp + Message.data], 0
        mov     dword ptr [ebp + Message.data + 4], 0
        mov     eax, ServerCall.REPLY_SECTORS
        ret

; give_zeros: sectors of no disk, for a request that does not read a file.
give_zeros:
        mov     dword ptr [ebp + Message.count], 1
        mov     dword ptr [ebp + Message.data], 0
        mov     dword ptr [ebp + Message.data + 4], SECTOR_ENTRY_HOLE >> 32
        mov     eax, ServerCall.REPLY_SECTORS
        ret

give_too_many:
        mov     dword ptr [ebp + Message.count], 507
        mov     eax, ServerCall.REPLY_SECTORS
        ret

; call_nonsense: gate functions that do not exist.
call_nonsense:
        mov     eax, 77
        call    SELECTOR_SERVER_GATE:0
        jnc     allowed
        mov     eax, ServerCall.REPLY_SECTORS + SERVER_CALL_NO_WAIT + 1
        call    SELECTOR_SERVER_GATE:0
        jnc     allowed
        mov     eax, ServerCall.REPLY_REGISTERS
        ret

; give_gladly: a correct object, to a client that asked for registers only.
give_gladly:
        mov     dword ptr [ebp + Message.data], USER_STACK_TOP - PAGE_SIZE
        mov     dword ptr [ebp + Message.data + 4], PAGE_SIZE
        mov     eax, ServerCall.REPLY_OBJECT
        ret

; keep: never answered; the thread goes on with other requests.
keep:   mov     eax, ServerCall.WAIT
        ret

; answer_kept: answer the oldest request that was kept, whose handle is the first of its slot, then this one.
answer_kept:
        xor     ebx, ebx
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      allowed
        mov     eax, ServerCall.REPLY_REGISTERS
        ret

        .rodata
        .align 4
attacks:
        .long   honest
        .long   reply_twice
        .long   forge_handles
        .long   write_afterwards
        .long   scribble
        .long   promise_data
        .long   give_kernel_pages
        .long   give_own_message
        .long   give_sectors
        .long   give_too_many
        .long   call_nonsense
        .long   give_gladly
        .long   keep
        .long   answer_kept
        .long   replay
        .long   give_zeros
ATTACKS = ($ - attacks) / 4
        .bss
        .align 4
last:   .space  4
seen:   .space  4
        .text
