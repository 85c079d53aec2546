; Starts itself again and again, and so do all that it has started; with THREADS each but the first starts threads
; too, with HEAP they take memory.  Only the first one ends, which has no arguments: its exit code is 100 + the
; ErrorCode that it met.
; PATH_SIZE bytes at `path` name it on the disk.

        .include "system.inc"

start:
        cmp     byte ptr [USER_ARGUMENTS], 0
        je      .next
        .if     HEAP
.piece: mov     ecx, 16 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jnc     .piece
        .endif
        .if     THREADS
.thread:
        mov     ebx, sleep
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jnc     .thread
        .endif
.next:
        mov     esi, path
        mov     ecx, PATH_SIZE
        mov     edi, child
        SYSTEM  START_PROCESS
        jnc     .next
        cmp     byte ptr [USER_ARGUMENTS], 0
        jne     sleep

        ; Wait a little, so that children come to their limits too.
        lea     esi, [eax + 100]
        mov     ecx, 20000000
        xor     edx, edx
        SYSTEM  SLEEP
        mov     ebx, esi
        SYSTEM  EXIT

sleep:
        SYSTEM  READ_CHARACTER
        jmp     sleep

        .rodata
child:  .ascii  "x"
        .byte   0
path:   .ascii  "/d0/BOMB"
PATH_SIZE = $ - path
