; A server with one thread that collects requests as long as more come, then answers all of them in an
; order of its own: ORDER 0 as they came, 1 the last first, 2 scrambled.

        .include "system.inc"

start:
        mov     eax, ServerCall.WAIT
        call    SELECTOR_SERVER_GATE:0
        xor     esi, esi                ; number of requests held
.keep:
        mov     [held + esi * 4], ebx
        inc     esi
        xor     edi, edi                ; requests found by polling since the last yield
        jmp     .poll
.more:
        mov     [held + esi * 4], ebx
        inc     esi
        inc     edi
.poll:
        mov     eax, ServerCall.WAIT | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        test    ebx, ebx
        jnz     .more

        ; Let the clients run; if that brings nothing new, they all wait.
        SYSTEM  YIELD
        mov     eax, ServerCall.WAIT | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        test    ebx, ebx
        jnz     .keep

        ; Index k of the answers: k, n - 1 - k, or the first of k * 11 mod 32, (k + 1) * 11 mod 32 … below n.
        xor     edi, edi
.answer:
        mov     eax, edi
    .if ORDER == 1
        lea     eax, [esi - 1]
        sub     eax, edi
    .endif
    .if ORDER == 2
        mov     eax, [scramble]
.next:
        add     eax, 11
        and     eax, 31
        cmp     eax, esi
        jae     .next
        mov     [scramble], eax
    .endif
        mov     ebp, [held + eax * 4]
        not     dword ptr [ebp + Message.eax]
        not     dword ptr [ebp + Message.ebx]
        not     dword ptr [ebp + Message.ecx]
        not     dword ptr [ebp + Message.edx]
        not     dword ptr [ebp + Message.esi]
        not     dword ptr [ebp + Message.edi]
        mov     dword ptr [ebp + Message.eflags], 0
        mov     ebx, [ebp + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      broken
        test    ebx, ebx
        jnz     broken
        inc     edi
        cmp     edi, esi
        jb      .answer
        jmp     start

broken: ud2

        .bss
        .align 4
held:   .space  SLOTS * 4
scramble:
        .space  4
        .text
