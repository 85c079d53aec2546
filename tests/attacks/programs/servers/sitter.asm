; A client that opens the file at the path in its argument, touches its first byte, sleeps for two seconds of virtual time, and
; ends with 0.

        .include "system.inc"

SECONDS = 2_000_000_000

start:
        mov     edi, USER_ARGUMENTS
        xor     ecx, ecx
.length:
        cmp     byte ptr [edi + ecx], 0
        je      .open
        inc     ecx
        jmp     .length
.open:
        mov     esi, edi
        xor     edx, edx
        SYSTEM  OPEN
        mov     ebx, 1
        jc      .end
        mov     ebx, eax
        xor     edx, edx
        xor     esi, esi
        mov     ecx, 1
        SYSTEM  MAP_FILE
        mov     ebx, 2
        jc      .end
        mov     al, [eax]
        mov     ecx, SECONDS
        xor     edx, edx
        SYSTEM  SLEEP
        xor     ebx, ebx
.end:
        SYSTEM  EXIT
