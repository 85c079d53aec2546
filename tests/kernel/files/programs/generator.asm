; Numbers for programs that read at random: from the argument, and from a linear congruential generator.

MULTIPLIER = 1664525
INCREMENT = 1013904223

; number: eight hexadecimal digits.
;   in:        esi
;   out:       edx; esi after them
number:
        xor     edx, edx
        mov     ecx, 8
.digit:
        lodsb
        sub     al, '0'
        cmp     al, 9
        jbe     .add
        sub     al, 'a' - '0' - 10
.add:
        movzx   eax, al
        shl     edx, 4
        add     edx, eax
        loop    .digit
        ret

; random: the next number in eax; clobbers edx.
random:
        mov     eax, [seed]
        mov     edx, MULTIPLIER
        mul     edx
        add     eax, INCREMENT
        mov     [seed], eax
        ret

        .bss
        .align 4
seed:   .space  4
        .text
