; Reads 100 bytes at the beginning, at 64 MiB + 1, at 5 GiB, at the end, at the beginning again.

        .include "system.inc"

SIZE = 100
FIVE_GIB_LOW = 0x40000000                ; 5 GiB is 1:40000000h

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        xor     eax, eax
        xor     edx, edx
        call    show
        mov     eax, 0x04000001
        xor     edx, edx
        call    show
        mov     eax, FIVE_GIB_LOW
        mov     edx, 1
        call    show
        call    file_size
        sub     eax, SIZE
        sbb     edx, 0
        call    show
        xor     eax, eax
        xor     edx, edx
        call    show
        call    file_close
        xor     ebx, ebx
        SYSTEM  EXIT

show:   call    file_seek
        mov     edi, buffer
        mov     ecx, SIZE
        call    file_read
        jc      failed
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        ret

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
buffer: .space  SIZE
        .text
