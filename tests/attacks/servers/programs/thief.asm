; A server with two threads, one of which tries to answer requests given to the other.

        .include "system.inc"

start:
        mov     ebx, thief
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jc      allowed

        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      allowed
        mov     ebp, ebx
        mov     ebx, [ebp + Message.handle]
        mov     dword ptr [tried], 0
        mov     [wanted], ebx
        mov     dword ptr [offered], 1
.until_tried:
        SYSTEM  YIELD
        cmp     dword ptr [tried], 0
        je      .until_tried
        not     dword ptr [ebp + Message.eax]
        not     dword ptr [ebp + Message.ebx]
        not     dword ptr [ebp + Message.ecx]
        not     dword ptr [ebp + Message.edx]
        not     dword ptr [ebp + Message.esi]
        not     dword ptr [ebp + Message.edi]
        mov     dword ptr [ebp + Message.eflags], 0
        mov     ebx, [ebp + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next

; The thief never waits for requests of its own, so everything it answers is stolen.
thief:
        SYSTEM  YIELD
        cmp     dword ptr [offered], 0
        je      thief
        mov     dword ptr [offered], 0
        mov     ebx, [wanted]
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jnc     allowed
        cmp     eax, ErrorCode.BAD_HANDLE
        jne     allowed
        mov     dword ptr [tried], 1
        jmp     thief

allowed:
        ud2

        .bss
        .align 4
offered:
        .space  4
wanted: .space  4
tried:  .space  4
        .text
