; Reads a dword at eight places of a file that are far from each other, from the window, and writes them.

        .include "system.inc"

STEP = 7 * 1024 * 1024 + 12288
SPAN = 20 * 1024 * 1024

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        call    file_peek
        jc      failed
        mov     al, [eax]
        mov     edi, places
        mov     ebp, 1
.next:
        imul    eax, ebp, STEP
        xor     edx, edx
        mov     ecx, SPAN
        div     ecx
        and     edx, -PAGE_SIZE
        add     edx, [file + File.window]
        mov     eax, [edx]
        stosd
        inc     ebp
        cmp     ebp, 8
        jbe     .next
        mov     esi, places
        mov     ecx, 32
        SYSTEM  WRITE
        xor     ebx, ebx
        SYSTEM  EXIT

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
places: .space  32
        .text
