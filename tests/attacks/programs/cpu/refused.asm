; Instructions that a CPU refuses and an engine executes, or executes to the harm of its host.

        .include "attack.inc"

        ATTACKS

ADDRESS = USER_ARGUMENTS + 4            ; of `mxcsr_of_kernel`, in the kernel's gigabyte

; mxcsr_of_kernel: a fault that depended on what memory holds there would tell it.
mxcsr_of_kernel:
        mov     ebx, [ADDRESS]
        ldmxcsr [ebx]
        jmp     gained

; lock_of_kernel: LOCK may not stand before a load, wherever it loads from.
lock_of_kernel:
        mov     ebx, [ADDRESS]
        .byte   0xf0, 0x03, 0x03                ; lock add eax, [ebx]
        jmp     gained

; xop: a prefix that a decoder takes for POP, with RDRAND after it.
xop:
        .byte   0x8f, 0xe9, 0x0f, 0xc7, 0xf0
        jmp     gained

misaligned_load:
        movaps  xmm0, [area + 1]
        jmp     gained

misaligned_store:
        .byte   0x0f, 0x2b, 0x05                ; movntps [area + 8], xmm0
        .long   area + 8
        jmp     gained

; long_strings: magnitudes without a sign bit, for which an engine reads all of its host's memory.
long_strings:
        mov     eax, 0x80000000
        mov     edx, eax
        .byte   0x66, 0x0f, 0x3a, 0x61, 0xc1, 0x00      ; pcmpestri xmm0, xmm1, equal any
        .byte   0x66, 0x0f, 0x3a, 0x61, 0xc1, 0x05      ; ranges, of words
        .byte   0x66, 0x0f, 0x3a, 0x60, 0xc1, 0x0c      ; pcmpestrm, equal ordered
        cmp     eax, 0x80000000
        jne     gained
        cmp     edx, eax
        jne     gained
        jmp     held

; untranslatable: the fault is that of the instruction; what stands before it has been executed.
untranslatable:
        push    5
        pop     eax
        mov     ecx, 3
.add:   add     ebx, eax
        loop    .add
        mov     edi, area
        mov     ecx, 4
        rep     stosb
        inc     edx
untranslatable_place:
        .byte   0xf0, 0x0f, 0xa3, 0xc0          ; lock bt eax, eax
        jmp     gained

        .rodata
        .align 4
attacks:
        .long   mxcsr_of_kernel, lock_of_kernel, xop, misaligned_load, misaligned_store, long_strings, untranslatable
COUNT = ($ - attacks) / 4

        .bss
        .align 16
area:   .space  64
