; The client of the benchmark `ipc-threads32`: one process, 32 threads of which make null requests, until the benchmark stops
; it.
;
; Its argument is the number of the endpoint, two decimal digits.

        .include "../../include/system.inc"
        .include "bench_endpoint.inc"

THREADS = 32
STACK = 256

start:
        ENDPOINT
        mov     edx, eax
        mov     edi, 1
.another:
        mov     ecx, edi
        imul    ecx, ecx, STACK
        add     ecx, stacks
        mov     ebx, requests
        SYSTEM  START_THREAD
        jc      failed
        inc     edi
        cmp     edi, THREADS
        jb      .another
        mov     eax, edx

; In: EAX = endpoint * 65536.
requests:
        mov     ebp, eax
.next:
        call    SELECTOR_IPC_GATE:0
        jnc     .next

failed:
        mov     ebx, 1
        SYSTEM  EXIT

        .bss
        .align 16
stacks: .space  THREADS * STACK
        .text
