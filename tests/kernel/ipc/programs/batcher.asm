; A client that makes ENTRIES requests at a time and checks every answer: it wants each register back with all bits inverted,
; and each entry's operation as it was.
;
; Its argument is a record: target (endpoint * 65536 + operation), number of batches, first register.
; Exit code: 0 all were right, 1 a register was wrong, 2 a flag was, 3 the number of entries answered, 4 an operation,
; 100 + ErrorCode a batch failed.

        .include "system.inc"

TARGET = USER_ARGUMENTS
COUNT = USER_ARGUMENTS + 4
SEED = USER_ARGUMENTS + 8
STATUS = 0x8d5

start:
        push    dword ptr [COUNT]
        push    dword ptr [SEED]
request:
        mov     eax, [esp]
        mov     esi, entries
        mov     ecx, ENTRIES
.fill:
        movzx   edx, word ptr [TARGET]
        mov     [esi + BatchEntry.operation], edx
        lea     edi, [esi + BatchEntry.eax]
        mov     edx, 6
.register:
        stosd
        inc     eax
        dec     edx
        jnz     .register
        mov     dword ptr [edi], -1
        add     eax, 10
        add     esi, sizeof(BatchEntry)
        loop    .fill

        mov     ebp, [TARGET]
    .if !LIBRARY
        mov     bp, Operation.BATCH
    .endif
        mov     esi, entries
        mov     ecx, ENTRIES
        mov     ebx, 0x1b
        mov     edi, 0x1d
    .if LIBRARY
        xor     bp, bp
before: call    request_batch
    .else
before: call    SELECTOR_IPC_GATE:0
    .endif
after:  jc      failed

        cmp     eax, ENTRIES
        mov     eax, 3
        jne     exit
        cmp     ecx, ENTRIES
        jne     exit
        cmp     esi, entries
        jne     exit
        cmp     ebx, 0x1b
        jne     exit
        cmp     edi, 0x1d
        jne     exit

        mov     ebx, [esp]
        not     ebx
.check:
        mov     eax, 4
        movzx   edx, word ptr [TARGET]
        cmp     [esi + BatchEntry.operation], edx
        jne     exit
        mov     eax, 2
        mov     edx, [esi + BatchEntry.eflags]
        test    edx, 1 | ~STATUS
        jnz     exit
        mov     eax, 1
        lea     edi, [esi + BatchEntry.eax]
        mov     edx, 6
.wanted:
        cmp     [edi], ebx
        jne     exit
        add     edi, 4
        dec     ebx
        dec     edx
        jnz     .wanted
        sub     ebx, 10
        add     esi, sizeof(BatchEntry)
        loop    .check

        add     dword ptr [esp], 16 * ENTRIES
        dec     dword ptr [esp + 4]
        jnz     request
        xor     eax, eax
exit:   mov     ebx, eax
        SYSTEM  EXIT

failed: add     eax, 100
        jmp     exit

    .if LIBRARY
        .include "request_batch.asm"
    .endif

        .bss
        .align 4096
        .space  4096 - 100              ; the entries lie in two pages
entries:
        .space  ENTRIES * sizeof(BatchEntry)
        .text
