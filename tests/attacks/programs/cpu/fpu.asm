; x87, MMX and SSE: a thread that reads registers must find only its own, and one that holds values must keep them.

        .include "attack.inc"

        ATTACKS

ENDPOINT = USER_ARGUMENTS + 4          ; of `through_server`
LOOKS = 12
READ_ALL = 3                            ; the number of `read_all` among the attacks

; LOOK reader: look at the registers, let others run, and look again.  The reader ends with ZF=1 if all is clean.
        .macro LOOK reader
        mov     ebp, LOOKS
.look:
        call    \reader
        jne     gained
        SYSTEM  YIELD
        dec     ebp
        jnz     .look
        jmp     held
        .endm

read_xmm:
        LOOK    .read
.read:
        movdqu  [area], xmm0
        movdqu  [area + 16], xmm1
        movdqu  [area + 32], xmm2
        movdqu  [area + 48], xmm3
        movdqu  [area + 64], xmm4
        movdqu  [area + 80], xmm5
        movdqu  [area + 96], xmm6
        movdqu  [area + 112], xmm7
        mov     edi, area
        mov     ecx, 32
        jmp     zeros

read_mmx:
        LOOK    .read
.read:
        movq    [area], mm0
        movq    [area + 8], mm1
        movq    [area + 16], mm2
        movq    [area + 24], mm3
        movq    [area + 32], mm4
        movq    [area + 40], mm5
        movq    [area + 48], mm6
        movq    [area + 56], mm7
        mov     edi, area
        mov     ecx, 16

; zeros: whether ECX dwords from EDI are zero: ZF.
zeros:
        xor     eax, eax
        repe    scasd
        ret

; read_all: FXSAVE, and with it the address of the last x87 instruction.
read_all:
        LOOK    clean

; clean: whether the registers are those of a new thread: ZF.
clean:
        fxsave  [area]
        mov     eax, [area + FloatingPointArea.control]
        cmp     eax, FPU_CONTROL_INITIAL
        jne     .found
        cmp     dword ptr [area + FloatingPointArea.mxcsr], MXCSR_INITIAL
        jne     .found
        cmp     byte ptr [area + FloatingPointArea.tags], 0
        jne     .found
        mov     edi, area + FloatingPointArea.instruction
        mov     ecx, 4
        call    zeros
        jne     .found
        mov     edi, area + FloatingPointArea.stack
        mov     ecx, 64
        call    zeros
.found:
        ret

read_saved:
        LOOK    .read
.read:
        fnsave  [area]
        cmp     word ptr [area], FPU_CONTROL_INITIAL
        jne     .found
        cmp     word ptr [area + 4], 0
        jne     .found
        mov     edi, area + 12
        mov     ecx, 4
        call    zeros
        jne     .found
        mov     edi, area + 28
        mov     ecx, 20
        call    zeros
.found:
        ret

; read_environment: what FNSTENV shows, the address of the last x87 instruction above all.
read_environment:
        LOOK    .read
.read:
        fnstenv [area]
        mov     edi, area + 12
        mov     ecx, 4
        call    zeros
        jne     .found
        cmp     word ptr [area + 8], 0xffff
.found:
        ret

read_control:
        LOOK    .read
.read:
        fnstcw  [area]
        cmp     word ptr [area], FPU_CONTROL_INITIAL
        ret

read_status:
        LOOK    .read
.read:
        fnstsw  ax
        test    ax, ax
        ret

read_mxcsr:
        LOOK    .read
.read:
        stmxcsr [area]
        cmp     dword ptr [area], MXCSR_INITIAL
        ret

        .include "fpu.inc"

; hold_and_end: the secrets are in the registers to the last instruction.
hold_and_end:
        call    fill
        jmp     held

; hold_for_ever: until it is killed, or while others read.
hold_for_ever:
        call    fill
.again:
        call    kept
        je      .again
        jmp     gained

; hold: secrets that must be the same after every turn of another thread.
hold:
        call    fill
        mov     ebp, 2 * LOOKS
.again:
        call    kept
        jne     gained
        SYSTEM  YIELD
        dec     ebp
        jnz     .again
        jmp     held

; new_thread: a thread of the same program begins with registers of its own, and this one keeps its own.
new_thread:
        call    fill
        mov     ebx, .other
        mov     ecx, stack_top
        SYSTEM  START_THREAD
        jc      gained
.wait:
        SYSTEM  YIELD
        call    kept
        jne     gained
        cmp     dword ptr [phase], 0
        je      .wait
        jmp     held
.other:
        fxsave  [other]
        mov     esi, other
        cmp     dword ptr [esi + FloatingPointArea.control], FPU_CONTROL_INITIAL
        jne     gained
        cmp     dword ptr [esi + FloatingPointArea.mxcsr], MXCSR_INITIAL
        jne     gained
        lea     edi, [esi + FloatingPointArea.stack]
        mov     ecx, 64
        call    zeros
        jne     gained
        fld1
        pcmpeqd xmm3, xmm3
        mov     dword ptr [phase], 1
.for_ever:
        SYSTEM  YIELD
        jmp     .for_ever

; start_child: a child begins with the registers of a new thread, control words included, and this program keeps its own.
start_child:
        call    fill
        mov     esi, child
        mov     ecx, CHILD_SIZE
        mov     edi, child_reads_all
        SYSTEM  START_PROCESS
        jc      gained
        mov     ebx, eax
        SYSTEM  WAIT_PROCESS
        jc      gained
        cmp     eax, HELD
        jne     gained
        call    kept
        jne     gained
        jmp     held

; through_server: requests of a server that has secrets of its own in every register.
through_server:
        call    fill
        mov     dword ptr [phase], LOOKS
.again:
        mov     ebp, [ENDPOINT]
        call    SELECTOR_IPC_GATE:0
        jc      gained
        call    kept
        jne     gained
        dec     dword ptr [phase]
        jnz     .again
        jmp     held

; unlock_*: the bit that makes the registers trap is not ring 3's to clear.
unlock_clts:
        clts
        jmp     gained

unlock_lmsw:
        mov     eax, 1
        lmsw    ax
        jmp     gained

unlock_cr0:
        mov     eax, 0x80010031
        mov     cr0, eax
        jmp     gained

; int_7: the exception's number is not a way to it.
int_7:
        int     7
        jmp     gained

; avx, xsave: registers that the kernel does not save cannot be used.
avx:
        .byte   0xc5, 0xf0, 0x58, 0xc2          ; vaddps xmm0, xmm1, xmm2
        jmp     gained

avx_wide:
        .byte   0xc5, 0xf4, 0x58, 0xc2          ; vaddps ymm0, ymm1, ymm2
        jmp     gained

avx_clear:
        .byte   0xc5, 0xf8, 0x77                ; vzeroupper
        jmp     gained

xsave:
        mov     eax, -1
        mov     edx, eax
        .byte   0x0f, 0xae, 0x25                ; xsave [area]
        .long   area
        jmp     gained

xgetbv:
        xor     ecx, ecx
        .byte   0x0f, 0x01, 0xd0                ; xgetbv
        jmp     gained

; mxcsr_reserved, image_reserved: bits that the CPU does not have.
mxcsr_reserved:
        mov     dword ptr [area], MXCSR_INITIAL | MXCSR_MASK + 1
        ldmxcsr [area]
        jmp     gained

image_reserved:
        fxsave  [area]
        or      dword ptr [area + FloatingPointArea.mxcsr], 0x80000000
        fxrstor [area]
        jmp     gained

; divide: an unmasked exception is reported by the next instruction that waits for it.
divide:
        fninit
        fldcw   [unmasked]
        fld1
        fldz
        fdivp   st(1), st(0)
divide_reported:
        fwait
        jmp     gained

; divide_and_switch: the same after others have had the registers.
divide_and_switch:
        fninit
        fldcw   [unmasked]
        fld1
        fldz
        fdivp   st(1), st(0)
        SYSTEM  YIELD
        SYSTEM  YIELD
        fwait
        jmp     gained

; leave_pending: an exception that the next FWAIT reports, in any thread.
leave_pending:
        fninit
        fldcw   [unmasked]
        fld1
        fldz
        fdivp   st(1), st(0)
.for_ever:
        SYSTEM  YIELD
        jmp     .for_ever

; wait_only: nothing but FWAIT, which must not report what another program has left.
wait_only:
        mov     ebp, LOOKS
.again:
        SYSTEM  YIELD
        fwait
        dec     ebp
        jnz     .again
        jmp     held

; compute: inexact quotients, whose flag is this thread's: each turn sets it anew and finds it after others have run.
compute:
        mov     ebp, LOOKS
.again:
        mov     dword ptr [area], MXCSR_INITIAL
        ldmxcsr [area]
        mov     eax, 1
        cvtsi2ss xmm0, eax
        mov     eax, 3
        cvtsi2ss xmm1, eax
        divss   xmm0, xmm1
        SYSTEM  YIELD
        stmxcsr [area]
        cmp     dword ptr [area], MXCSR_INITIAL | 0x20
        jne     gained
        dec     ebp
        jnz     .again
        jmp     held

        .rodata
        .align 4
attacks:
        .long   read_xmm, read_mmx, read_all, read_saved, read_environment, read_control, read_status, read_mxcsr
        .long   hold_and_end, hold_for_ever, hold, new_thread, through_server
        .long   unlock_clts, unlock_lmsw, unlock_cr0, int_7
        .long   avx, avx_wide, avx_clear, xsave, xgetbv, mxcsr_reserved, image_reserved, divide, divide_and_switch
        .long   leave_pending, wait_only, start_child, compute
COUNT = ($ - attacks) / 4

child:  .ascii  "/d0/CHILD"             ; this program
CHILD_SIZE = $ - child
child_reads_all:
        .byte   READ_ALL, 0

unmasked:
        .word   FPU_CONTROL_INITIAL & ~4        ; zero divide

        .bss
        .align 16
other:  .space  512
phase:  .space  4
        .space  1024
stack_top:
