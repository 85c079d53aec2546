; Reads a byte here and there of a file of holes, ROUNDS times, at positions of which no two are in one request.

        .include "system.inc"

STEP = 1 << 20

start:
        mov     esi, file
        mov     ecx, FILE_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        jc      failed
        mov     [handle], eax
        mov     dword ptr [left], ROUNDS
.next:
        mov     ebx, [handle]
        mov     esi, [position]
        mov     edx, [position + 4]
        mov     ecx, 1
        SYSTEM  MAP_FILE
        .if     !FAILING
        jc      failed
        .endif
        add     dword ptr [position], STEP
        adc     dword ptr [position + 4], 0
        dec     dword ptr [left]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT
failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .rodata
file:   .ascii  "/d0/f"
FILE_SIZE = $ - file
        .data
        .align 8
position:
        .quad   0
handle: .long   0
left:   .long   0
