; Fills all memory that it can get with a pattern, and ends.

        .include "system.inc"

PIECE = 64 * PAGE_SIZE

start:
        mov     ecx, PIECE
        SYSTEM  ALLOCATE
        jc      .full
        mov     edi, eax
        mov     eax, 0xdeadc0de
        mov     ecx, PIECE / 4
        rep     stosd
        jmp     start
.full:
        xor     ebx, ebx
        SYSTEM  EXIT
