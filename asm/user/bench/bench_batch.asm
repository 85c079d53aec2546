; The client of the benchmark `ipc-batch32x4`: batches of four null requests, one after the other, until the benchmark stops
; it.
;
; Its argument is the number of the endpoint, two decimal digits.

        .include "../../include/system.inc"
        .include "bench_endpoint.inc"

REQUESTS = 4

start:
        ENDPOINT
        or      eax, Operation.BATCH
        mov     ebp, eax

; The flags are the server's: an entry that it has not served keeps those that it is sent with.
request:
        mov     ecx, REQUESTS
        mov     esi, requests
.mark:
        mov     dword ptr [esi + BatchEntry.operation], Operation.NULL
        mov     dword ptr [esi + BatchEntry.eflags], -1
        add     esi, sizeof(BatchEntry)
        loop    .mark
        mov     ecx, REQUESTS
        mov     esi, requests
before:
        call    SELECTOR_IPC_GATE:0
after:
        jc      failed
.check:
        test    dword ptr [esi + BatchEntry.eflags], CARRY | UNUSED
        jnz     failed
        add     esi, sizeof(BatchEntry)
        loop    .check
        jmp     request

failed:
        mov     ebx, 1
        SYSTEM  EXIT

CARRY = 1
UNUSED = 1 << 31

        .bss
        .align 4
requests:
        .space  REQUESTS * sizeof(BatchEntry)
        .text
