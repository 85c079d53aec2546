; Takes all memory that it can get, heap, stack and .bss, and looks for anything that is not zero.

        .include "attack.inc"

PIECE = 64 * PAGE_SIZE
OWN = 16 * PAGE_SIZE

start:
        ; The stack first: all but its first page has never been touched.
        mov     esi, USER_STACK_TOP - USER_STACK_SIZE
        mov     ecx, (USER_STACK_SIZE - PAGE_SIZE) / 4
.stack:
        cmp     dword ptr [esi], 0
        jne     gained
        add     esi, 4
        dec     ecx
        jnz     .stack
        mov     edi, own
        xor     eax, eax
        mov     ecx, OWN / 4
        repe    scasd
        jne     gained
.next:
        mov     ecx, PIECE
        SYSTEM  ALLOCATE
        jc      held
        mov     edi, eax
        xor     eax, eax
        mov     ecx, PIECE / 4
        repe    scasd
        je      .next
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT
held:
        mov     ebx, HELD
        SYSTEM  EXIT

        .bss
own:    .skip   OWN
