; Locks the directory whose path is its argument, after a byte that it ignores; ends with GAINED if that succeeded, with
; 100 + ErrorCode if it failed.

        .include "attack.inc"

start:
        mov     esi, USER_ARGUMENTS + 1
        xor     ecx, ecx
.length:
        cmp     byte ptr [esi + ecx], 0
        je      .lock
        inc     ecx
        jmp     .length
.lock:
        SYSTEM  LOCK_DIRECTORY
        mov     ebx, GAINED
        jnc     .end
        lea     ebx, [eax + 100]
.end:
        SYSTEM  EXIT
