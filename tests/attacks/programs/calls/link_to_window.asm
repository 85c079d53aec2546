; Has the target of a link written into a window of a file, of which no page has been fetched yet: HELD if it is there
; when READ_LINK returns.

        .include "attack.inc"

PATH_SIZE = 5
TARGET_SIZE = 5

start:
        mov     esi, file
        mov     ecx, PATH_SIZE
        mov     edx, OpenFlags.WRITE
        SYSTEM  OPEN
        jc      gained
        mov     ebp, edi
        mov     esi, link
        mov     ecx, PATH_SIZE
        mov     edx, TARGET_SIZE
        SYSTEM  READ_LINK
        jc      gained
        cmp     eax, TARGET_SIZE
        jne     gained
        mov     esi, target
        mov     edi, ebp
        mov     ecx, TARGET_SIZE
        repe    cmpsb
        jne     gained
        mov     ebx, HELD
        SYSTEM  EXIT
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .rodata
file:   .ascii  "/d0/f"
link:   .ascii  "/d0/l"
target: .ascii  "where"
