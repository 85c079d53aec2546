; A program that minds its own business: requests of the ROM's server and a page of its own, which must stay as it is.

        .include "attack.inc"

ROUNDS = 60
PATTERN = 0x5aa5c33c
ROM = 0

start:
        mov     ecx, PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      disturbed
        mov     edi, eax
        mov     [page], eax
        mov     eax, PATTERN
        mov     ecx, PAGE_SIZE / 4
        rep     stosd
        mov     dword ptr [left], ROUNDS
.next:
        mov     ebp, ROM << 16 | Operation.NULL
        mov     eax, [left]
        lea     ebx, [eax + 1]
        lea     ecx, [eax + 2]
        lea     edx, [eax + 3]
        lea     esi, [eax + 4]
        lea     edi, [eax + 5]
        call    SELECTOR_IPC_GATE:0
        jc      disturbed
        sub     ebx, 1
        sub     ecx, 2
        sub     edx, 3
        sub     esi, 4
        sub     edi, 5
        cmp     eax, [left]
        jne     disturbed
        cmp     ebx, eax
        jne     disturbed
        cmp     ecx, eax
        jne     disturbed
        cmp     edx, eax
        jne     disturbed
        cmp     esi, eax
        jne     disturbed
        cmp     edi, eax
        jne     disturbed
        mov     edi, [page]
        mov     eax, PATTERN
        mov     ecx, PAGE_SIZE / 4
        repe    scasd
        jne     disturbed
        SYSTEM  YIELD
        dec     dword ptr [left]
        jnz     .next
        mov     ebx, HELD
        SYSTEM  EXIT

disturbed:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .data
        .align 4
page:   .long   0
left:   .long   0
