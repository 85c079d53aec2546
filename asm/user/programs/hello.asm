; The smallest program: say hello, show the arguments, end.

        .include "../../include/system.inc"

start:
        mov     esi, greeting
        mov     ecx, GREETING_SIZE
        SYSTEM  WRITE

        ; The command line, up to its zero.
        mov     esi, USER_ARGUMENTS
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .show
        inc     ecx
        jmp     .count
.show:
        SYSTEM  WRITE
        mov     esi, newline
        mov     ecx, 1
        SYSTEM  WRITE
        xor     ebx, ebx
        SYSTEM  EXIT

        .rodata
greeting:
        .ascii  "hello from ring 3, arguments: "
GREETING_SIZE = $ - greeting
newline:
        .byte   10
