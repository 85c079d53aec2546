; A reader that opens the file at the path in its argument, touches its first page, sleeps while the next one is read
; ahead, touches that one, and makes no further call.

        .include "system.inc"

A_WHILE = 1000000               ; nanoseconds
FAILED = 7

start:
        mov     esi, USER_ARGUMENTS
        xor     ecx, ecx
.length:
        cmp     byte ptr [esi + ecx], 0
        je      .open
        inc     ecx
        jmp     .length
.open:
        xor     edx, edx
        SYSTEM  OPEN
        jc      failed
        mov     ebp, edi
        mov     al, [ebp]
        mov     ecx, A_WHILE
        xor     edx, edx
        SYSTEM  SLEEP
        mov     al, [ebp + PAGE_SIZE]
spin:   jmp     spin

failed: mov     ebx, FAILED
        SYSTEM  EXIT
