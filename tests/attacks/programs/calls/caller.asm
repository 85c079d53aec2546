; Makes CALLS calls of every kind but EXIT, a request now and then, with arguments that a generator chooses.  The
; argument is the seed: four characters.  Calls that would wait for ever, print megabytes or start threads of nothing
; get arguments that keep them short.

        .include "system.inc"

MULTIPLIER = 1664525
INCREMENT = 1013904223

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
        cmp     eax, SYSTEM_CALLS
        ja      .again
        cmp     eax, SystemCall.EXIT
        je      .again
        cmp     eax, SystemCall.READ_CHARACTER
        je      .again
        cmp     eax, SystemCall.SLEEP
        jne     .awake
        xor     edx, edx
        and     ecx, 0xffff
.awake:
        cmp     eax, SystemCall.WRITE
        jne     .quiet
        and     ecx, 15
.quiet:
        cmp     eax, SystemCall.START_THREAD
        jne     .call
        call    thread_arguments
.call:
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

; thread_arguments: half of the time arguments that are refused, else a thread that makes a call and sleeps.
;   in:        ecx  chosen
;   out:       ebx ecx edx
thread_arguments:
        test    cl, 1
        jz      .refused
        mov     ebx, sleeper
        mov     edx, eax
        cmp     dword ptr [stacks], STACKS_END
        jae     .refused
        add     dword ptr [stacks], STACK
        mov     ecx, [stacks]
        ret
.refused:
        mov     ebx, KERNEL_BASE
        ret

sleeper:
        SYSTEM  YIELD
        mov     edx, -1
        SYSTEM  SLEEP
        jmp     sleeper

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
values:
        .long   0, 0, 0, path, path, 0x1000, PAGE_SIZE, 0x40000000, USER_ARGUMENTS, USER_END, KERNEL_BASE
        .long   0xffffffff, 0x80000000, USER_STACK_TOP, start, room
path:
        .ascii  "/d0/A.TXT"
        .byte   0
        .data
        .align 4
stacks: .long   thread_stacks
        .bss
        .align 4
seed:   .space  4
left:   .space  4
STACK = 256
STACKS_END = thread_stacks + 8 * STACK
thread_stacks:
        .space  9 * STACK
        .space  16                      ; results are written to odd places beside `room`
room:   .space  8192
        .text
