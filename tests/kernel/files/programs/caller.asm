; Makes 4,000 calls of every kind that neither ends nor waits, a request now and then, with arguments that a generator
; chooses.  The argument is the seed: four characters.

        .include "system.inc"

MULTIPLIER = 1664525
INCREMENT = 1013904223
CALLS = 4000

start:
        mov     eax, [USER_ARGUMENTS]
        mov     [seed], eax
        mov     dword ptr [left], CALLS
.next:
        call    value
        mov     edx, eax
        call    value
        mov     esi, eax
        call    value
        mov     edi, eax
        call    value
        mov     ebx, eax
        call    value
        mov     ecx, eax
        call    number
        test    al, 7
        jz      .request
.again:
        call    number
        and     eax, 31
        bt      [skipped], eax
        jc      .again
        call    SELECTOR_SYSTEM_GATE:0
        jmp     .done
.request:
        call    number
        mov     ebp, eax
        and     ebp, 0x001f01ff
        call    value
        call    SELECTOR_IPC_GATE:0
.done:
        dec     dword ptr [left]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT

; number: the next pseudo-random number.
;   out:       eax
;   clobbers:  flags
number:
        push    edx
        imul    eax, [seed], MULTIPLIER
        add     eax, INCREMENT
        mov     [seed], eax
        rol     eax, 16
        pop     edx
        ret

; value: the next argument: small, an address of every kind, or anything.
;   out:       eax
;   clobbers:  ecx, flags
value:
        call    number
        mov     ecx, eax
        and     ecx, 15
        mov     ecx, [values + ecx * 4]
        test    ecx, ecx
        jz      .small
        call    number
        and     eax, 3
        lea     eax, [ecx + eax - 1]
        ret
.small:
        call    number
        and     eax, 15
        ret

        .rodata
        .align 4
; Calls that end or wait, start threads of nothing, or print megabytes.
ENDING = 1 << SystemCall.EXIT | 1 << SystemCall.START_THREAD | 1 << SystemCall.WRITE
WAITING = 1 << SystemCall.READ_CHARACTER | 1 << SystemCall.WAIT_PROCESS | 1 << SystemCall.SLEEP
skipped:
        .long   ENDING | WAITING
values:
        .long   0, 0, 0, path, path, 0x1000, PAGE_SIZE, 0x40000000, USER_ARGUMENTS, USER_END, KERNEL_BASE
        .long   0xffffffff, 0x80000000, USER_STACK_TOP, start, room
path:
        .ascii  "/d0/A.TXT"
        .byte   0
        .bss
        .align 4
seed:   .space  4
left:   .space  4
        .space  16                      ; results are written to odd places beside `room`
room:   .space  8192
        .text
