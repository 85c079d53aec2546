; A server with the runtime of native servers, which serves with THREADS threads.  Its own operations:
;   0   answers with every register inverted, and writes over the data part of the message page, as it may
;   1   fails, with every register inverted but EAX
;   2   answers with every arithmetic flag set, by a reply with data

STACK = 4096
SCRIBBLE = 40                   ; dwords of the data part: the entries of five requests

start:  jmp     begin

        .rodata
        .align 4
operations:
        .rept   OPERATION_SERVER_DEFINED
        .if \+ == Operation.BATCH
        .long   operation_batch
        .else
        .long   unknown
        .endif
        .endr
        .long   inverted, failing, flags
OPERATIONS = ($ - operations) / 4
        .text

        .include "server.asm"

begin:
    .if THREADS > 1
        mov     edi, 1
.another:
        mov     ecx, edi
        imul    ecx, ecx, STACK
        add     ecx, stacks
        mov     ebx, serve
        mov     edx, edi
        SYSTEM  START_THREAD
        jc      broken
        inc     edi
        cmp     edi, THREADS
        jb      .another
    .endif
        jmp     serve

inverted:
        call    invert
        not     eax

        ; A request of a batch is one without data.
        cmp     dword ptr [ebp + Message.flags], 0
        jne     broken
        pushad
        lea     edi, [ebp + Message.data]
        mov     ecx, SCRIBBLE
        mov     eax, 0xdddddddd
        cld
        rep     stosd
        popad

        ; The others shall have their turn in the middle of a request.
    .if THREADS > 1
        push    eax
        SYSTEM  YIELD
        pop     eax
    .endif
        mov     ebp, ServerCall.REPLY_REGISTERS
        clc
        ret

failing:
        call    invert
        mov     eax, ErrorCode.IO_ERROR
        mov     ebp, ServerCall.REPLY_REGISTERS
        stc
        ret

flags:
        mov     dword ptr [ebp + Message.count], 8
        mov     ebp, ServerCall.REPLY_DATA
        push    -1 & ~0x40100           ; neither AC nor TF, but DF
        popfd
        ret

invert: not     ebx
        not     ecx
        not     edx
        not     esi
        not     edi
        ret

unknown:
        mov     eax, ErrorCode.BAD_CALL
        mov     ebp, ServerCall.REPLY_REGISTERS
        stc
        ret

broken: ud2

        .bss
        .align 16
stacks: .space  THREADS * STACK
        .text
