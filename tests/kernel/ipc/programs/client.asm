; A client that checks every answer: it sends six registers and wants each back with all bits inverted.
;
; Its argument is a record: target (endpoint * 65536 + operation), number of requests, first register.
; Exit code: 0 all were right, 1 a register was wrong, 2 a flag was, 100 + ErrorCode a request failed.

        .include "system.inc"

TARGET = USER_ARGUMENTS
COUNT = USER_ARGUMENTS + 4
SEED = USER_ARGUMENTS + 8
PRIVILEGED = 0x3300             ; IOPL, IF and TF

start:
        push    dword ptr [COUNT]
        push    dword ptr [SEED]
request:
        mov     eax, [esp]
        lea     ebx, [eax + 1]
        lea     ecx, [eax + 2]
        lea     edx, [eax + 3]
        lea     esi, [eax + 4]
        lea     edi, [eax + 5]
        mov     ebp, [TARGET]
before: call    SELECTOR_IPC_GATE:0
after:  jc      failed

        not     eax
        not     ebx
        not     ecx
        not     edx
        not     esi
        not     edi
        sub     ebx, 1
        sub     ecx, 2
        sub     edx, 3
        sub     esi, 4
        sub     edi, 5
        xor     ebx, eax
        xor     ecx, eax
        xor     edx, eax
        xor     esi, eax
        xor     edi, eax
        xor     eax, [esp]
        or      eax, ebx
        or      eax, ecx
        or      eax, edx
        or      eax, esi
        or      eax, edi
        mov     ebx, 1
        jnz     exit

        ; A server chooses the arithmetic flags; IF stays set, IOPL and TF stay clear.
        pushfd
        pop     eax
        and     eax, PRIVILEGED
        mov     ebx, 2
        cmp     eax, 0x200
        jne     exit
        add     dword ptr [esp], 16
        dec     dword ptr [esp + 4]
        jnz     request
        xor     ebx, ebx
exit:   SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        jmp     exit
