; Locks the directory at the path that is its argument, and unlocks it.  Exit code: 0, or 100 + ErrorCode.

        .include "system.inc"

start:
        mov     esi, USER_ARGUMENTS
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .lock
        inc     ecx
        jmp     .count
.lock:
        SYSTEM  LOCK_DIRECTORY
        jc      .failed
        SYSTEM  UNLOCK_DIRECTORY
        jc      .failed
        xor     ebx, ebx
        SYSTEM  EXIT
.failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT
