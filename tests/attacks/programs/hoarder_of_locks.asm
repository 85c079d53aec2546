; Takes more memory than a server has, then locks a directory again and again until it is refused.

        .include "attack.inc"

start:
        mov     ecx, PAGES * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
.again:
        mov     esi, directory
        mov     ecx, DIRECTORY_SIZE
        SYSTEM  LOCK_DIRECTORY
        jnc     .again
        cmp     eax, ErrorCode.NO_MEMORY
        jne     gained
        mov     ebx, HELD
        SYSTEM  EXIT
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .rodata
directory:
        .ascii  "/d0"
DIRECTORY_SIZE = $ - directory
