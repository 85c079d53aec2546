; Asks the first volume for its free space, again and again; the argument is how often, two decimal digits.

        .include "system.inc"

VOLUME = 1                      ; the ROM has number 0

start:
        movzx   eax, byte ptr [USER_ARGUMENTS]
        imul    eax, eax, 10
        movzx   ebx, byte ptr [USER_ARGUMENTS + 1]
        lea     eax, [eax + ebx - 11 * '0']
        push    eax
.next:
        mov     ebp, VOLUME << 16 | Operation.FREE_SPACE
        call    SELECTOR_IPC_GATE:0
        mov     ebx, 1
        jc      .end
        dec     dword ptr [esp]
        jnz     .next
        xor     ebx, ebx
.end:
        SYSTEM  EXIT
