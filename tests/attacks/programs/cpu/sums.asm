; Sums of 4/1 - 4/3 + 4/5 - ..., in x87 and in SSE at once, by four threads that round in four ways.  Each yields the
; CPU in the middle of every term, with unfinished values in the registers.
;
; Its argument: how many terms, how many threads, then for each thread the sum in 80 bits, 6 bytes of nothing and the
; sum in 64 bits.  Exit code: HELD if all were right, GAINED if one was not.

        .include "system.inc"

HELD = 0
GAINED = 7
TERMS = USER_ARGUMENTS + 4
THREADS = USER_ARGUMENTS + 8
EXPECTED = USER_ARGUMENTS + 12
DOUBLE = 16                             ; in a record of 24 bytes
RECORD = 24
LIMIT = 4

start:
        mov     esi, 1
        mov     edi, stacks + 1024
.next:
        cmp     esi, [THREADS]
        jae     .mine
        mov     ebx, worker
        mov     ecx, edi
        mov     edx, esi
        SYSTEM  START_THREAD
        jc      wrong
        inc     esi
        add     edi, 1024
        jmp     .next
.mine:
        xor     eax, eax

; worker: thread EAX sums up and compares; the last one to be right ends the program.
worker:
        mov     ebp, eax

        ; The number of the thread is its rounding mode: to nearest, down, up, towards zero.
        shl     eax, 10
        or      eax, FPU_CONTROL_INITIAL
        push    eax
        fldcw   [esp]
        mov     eax, ebp
        shl     eax, 13
        or      eax, MXCSR_INITIAL
        mov     [esp], eax
        ldmxcsr [esp]

        ; ST(0) the sum, ST(1) plus or minus four; XMM0 and XMM1 as well.
        fld     qword ptr [four]
        fldz
        xorpd   xmm0, xmm0
        movsd   xmm1, qword ptr [four]
        mov     esi, 1
        mov     edi, [TERMS]
.term:
        mov     [esp], esi
        fild    dword ptr [esp]
        fdivr   st(0), st(2)
        cvtsi2sd xmm2, esi
        movapd  xmm3, xmm1
        SYSTEM  YIELD
        divsd   xmm3, xmm2
        addsd   xmm0, xmm3
        faddp   st(1), st(0)
        xorpd   xmm1, [sign]
        fxch    st(1)
        fchs
        fxch    st(1)
        add     esi, 2
        dec     edi
        jnz     .term

        imul    edi, ebp, RECORD
        add     edi, EXPECTED
        sub     esp, 20
        fstp    tbyte ptr [esp]
        movsd   qword ptr [esp + 12], xmm0
        mov     eax, [esp]
        cmp     eax, [edi]
        jne     wrong
        mov     eax, [esp + 4]
        cmp     eax, [edi + 4]
        jne     wrong
        mov     ax, [esp + 8]
        cmp     ax, [edi + 8]
        jne     wrong
        mov     eax, [esp + 12]
        cmp     eax, [edi + DOUBLE]
        jne     wrong
        mov     eax, [esp + 16]
        cmp     eax, [edi + DOUBLE + 4]
        jne     wrong

        mov     eax, 1
        lock xadd [right], eax
        inc     eax
        cmp     eax, [THREADS]
        je      .all
.for_ever:
        SYSTEM  YIELD
        jmp     .for_ever
.all:
        mov     ebx, HELD
        SYSTEM  EXIT

wrong:  mov     ebx, GAINED
        SYSTEM  EXIT

        .rodata
        .align 16
sign:   .quad   0x8000000000000000, 0
four:   .quad   0x4010000000000000

        .bss
        .align 16
stacks: .space  1024 * (LIMIT + 1)
right:  .space  4
