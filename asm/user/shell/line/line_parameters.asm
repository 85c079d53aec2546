; Control sequences that come from the keyboard, and from the emulator, which reports the size of the terminal by one.

PARAMETERS = 3
PARAMETER_LIMIT = 10000

; read_parameters: read the numbers of a control sequence, up to the letter that ends it.
;   out:       CF=0  al  the letter, parameters        CF=1  the end of input
;   clobbers:  eax, ecx, edx, flags
read_parameters:
        mov     dword ptr [parameters], 0
        mov     dword ptr [parameters + 4], 0
        mov     dword ptr [parameters + 8], 0
        xor     ecx, ecx
.next:
        push    ecx
        SYSTEM  READ_CHARACTER
        pop     ecx
        jc      .done
        cmp     al, ';'
        je      .separator
        cmp     al, '0'
        jb      .letter
        cmp     al, '9'
        ja      .letter
        cmp     ecx, PARAMETERS
        jae     .next
        movzx   eax, al
        sub     eax, '0'
        imul    edx, [parameters + ecx * 4], 10
        add     eax, edx
        cmp     eax, PARAMETER_LIMIT
        jae     .next
        mov     [parameters + ecx * 4], eax
        jmp     .next
.separator:
        cmp     ecx, PARAMETERS
        jae     .next
        inc     ecx
        jmp     .next
.letter:
        clc
.done:
        ret

        .bss
        .align  4
parameters:
        .space  PARAMETERS * 4
        .text
