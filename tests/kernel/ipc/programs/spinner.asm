; A program without requests: it counts for ever, or with a number of rounds in its argument until they are over.

        .include "system.inc"

ROUNDS = USER_ARGUMENTS + 4
PAUSE = USER_ARGUMENTS + 8      ; nanoseconds to sleep first, 0 = none

start:
        mov     ecx, [PAUSE]
        test    ecx, ecx
        jz      .count
        xor     edx, edx
        SYSTEM  SLEEP
.count:
        mov     ecx, [ROUNDS]
again:  dec     ecx
        jnz     again
        xor     ebx, ebx
        SYSTEM  EXIT
