; Opens one file FILES times, and reads PAGES bytes of it in each of the windows, STEP bytes apart.

        .include "attack.inc"

NAME_SIZE = 5

start:
        mov     dword ptr [left], FILES
.next:
        mov     esi, name
        mov     ecx, NAME_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        jc      failed
        mov     ecx, PAGES
        jecxz   .touched
.touch: mov     al, [edi]
        add     edi, STEP
        loop    .touch
.touched:
        dec     dword ptr [left]
        jnz     .next
        mov     ebx, HELD
        SYSTEM  EXIT
failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .rodata
name:   .ascii  "/d0/f"
        .data
        .align 4
left:   .long   0
