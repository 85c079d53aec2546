; Takes all it can until it is refused: pieces of as many bytes as its third argument says (0: none), then threads.
; Exit code: 100 + the ErrorCode of the last refusal.

        .include "system.inc"

PIECE = USER_ARGUMENTS + 8

start:
        mov     ecx, [PIECE]
        test    ecx, ecx
        jz      threads
        SYSTEM  ALLOCATE
        jnc     start

threads:
        mov     ebx, sleep
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jnc     threads
        lea     ebx, [eax + 100]
        SYSTEM  EXIT

sleep:
        mov     edx, 1
        SYSTEM  SLEEP
        jmp     sleep
