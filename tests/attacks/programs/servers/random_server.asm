; A server that makes CALLS server calls with arguments that a generator chooses, and ends.  Requests that it is given
; are filled with garbage and answered by chance, rightly or wrongly.  SEED is where the generator begins.

        .include "system.inc"

MULTIPLIER = 1664525
INCREMENT = 1013904223

start:
        mov     dword ptr [seed], SEED
        mov     dword ptr [left], CALLS
.next:
        call    value
        mov     edx, eax
        call    value
        mov     esi, eax
        call    value
        mov     edi, eax
        call    handle
        mov     ebx, eax
        call    value
        mov     ecx, eax
        call    number
        and     eax, 15
        cmp     eax, ServerCall.LOCK_BLOCKS
        jb      .no_wait
        ja      .call

        ; Half of the time existing sectors.
        test    cl, 1
        jz      .call
        xor     edx, edx
        and     esi, 31
        and     ecx, 63
        jmp     .call
.no_wait:
        or      eax, SERVER_CALL_NO_WAIT
.call:
        push    eax
        call    SELECTOR_SERVER_GATE:0
        pop     edx
        jc      .done
        cmp     edx, ServerCall.WAIT | SERVER_CALL_NO_WAIT
        jne     .other
        test    ebx, ebx
        jz      .yield

        ; A request: remember its handle, and spoil its page.
        mov     eax, [ebx + Message.handle]
        mov     [last], eax
        call    number
        lea     edi, [ebx]
        mov     ecx, 64
        test    al, 1
        jz      .done
        mov     eax, [seed]
        rep     stosd
        jmp     .done
.other:
        cmp     edx, ServerCall.LOCK_BLOCKS
        jne     .done
        mov     [locked], eax
        jmp     .done
.yield:
        SYSTEM  YIELD
.done:
        dec     dword ptr [left]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT

; handle: the next EBX: the last handle, its neighbours, the last address that was locked, or any value.
;   out:       eax
handle: call    number
        test    al, 3
        jz      value
        test    al, 4
        mov     eax, [last]
        jnz     .one
        mov     eax, [locked]
        ret
.one:
        ret

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
        and     eax, 255
        ret

        .rodata
        .align 4
values:
        .long   0, 0, 0, 0x1000, PAGE_SIZE, USER_HEAP, USER_MESSAGES, USER_METADATA, USER_ARGUMENTS, USER_END
        .long   KERNEL_BASE, 0xffffffff, 0x80000000, USER_STACK_TOP, start, 0x7fffffff

        .bss
        .align 4
seed:   .space  4
left:   .space  4
last:   .space  4
locked: .space  4
