; The client of `callgate bench ipc`: null requests, one after the other, until the benchmark stops it.
;
; Its argument is the number of the endpoint, two decimal digits.

        .include "../../include/system.inc"
        .include "bench_endpoint.inc"

start:
        ENDPOINT
        mov     ebp, eax
        mov     edi, 6
        mov     esi, 5

; The request carries six registers; they come back as they were.
request:
        mov     eax, 1
        mov     ebx, 2
        mov     ecx, 3
        mov     edx, 4
before:
        call    SELECTOR_IPC_GATE:0
after:
        jc      failed
        jmp     request

failed:
        mov     ebx, 1
        SYSTEM  EXIT
