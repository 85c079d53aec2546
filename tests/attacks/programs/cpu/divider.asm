; Divides the smallest number of each size by -1, which an engine that divides on the host does not survive.  ATTACK
; chooses how.

        .include "attack.inc"

start:
        mov     eax, 0
        mov     edx, 0x80000000
        mov     ecx, -1
        mov     ebx, divisor
        jmp     dword ptr [attacks + ATTACK * 4]

by_register:
        idiv    ecx
        jmp     gained
by_memory:
        idiv    dword ptr [ebx]
        jmp     gained
by_short_register:
        mov     edx, 0x12348000
        mov     eax, 0x56780000
        idiv    cx
        jmp     gained
by_word:
        mov     edx, 0x8000
        idiv    word ptr [ebx]
        jmp     gained
with_prefixes:
        .byte   0x3e, 0x66, 0xf2, 0x2e, 0xf7, 0xf9      ; idiv cx
        idiv    ecx
        jmp     gained
by_two:
        mov     ecx, 2
        idiv    ecx
        jmp     gained
by_kernel:
        mov     ebx, 0xc0100000
        idiv    dword ptr [ebx]
        jmp     gained
by_nothing:
        mov     ebx, 0x30000000
        idiv    dword ptr [ebx]
        jmp     gained

; The dividend is the smallest number at the second execution only.
in_a_loop:
        mov     esi, 2
.again: mov     eax, 7
        xor     edx, edx
        dec     esi
        jnz     .divide
        mov     edx, 0x80000000
        xor     eax, eax
.divide:
        idiv    ecx
        cmp     eax, -7
        je      .again
        jmp     gained

; Quotients that fit are computed, also of dividends that look like the smallest one.
honest:
        mov     ebp, divisions
.next:
        mov     edx, [ebp]
        mov     eax, [ebp + 4]
        idiv    dword ptr [ebp + 8]
        cmp     eax, [ebp + 12]
        jne     gained
        cmp     edx, [ebp + 16]
        jne     gained
        add     ebp, 20
        cmp     ebp, divisions_end
        jb      .next
        mov     edx, 0x8000
        mov     eax, 0xffff0001
        mov     ecx, 0x7fff0000
        idiv    ecx
        cmp     eax, 0x10004
        jne     gained
        mov     ebx, HELD
        SYSTEM  EXIT
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .rodata
        .align 4
attacks:
        .long   by_register, by_memory, by_short_register, by_word, with_prefixes, by_two, by_kernel, by_nothing
        .long   in_a_loop, honest
divisor:
        .long   -1
; Upper and lower half of a dividend, divisor, quotient, remainder.
divisions:
        .long   -1, -100, 7, -14, -2
        .long   -1, 0x80000000, 1, 0x80000000, 0
        .long   0, 100, -7, -14, 2
        .long   0x1fffffff, 0x80000000, 0x7fffffff, 0x3fffffff, 0x3fffffff
divisions_end:
