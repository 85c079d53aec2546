; Reads a file from end to end, by MAP_FILE and a byte of each page: HELD if all of it can be had.  The argument is its
; path.

        .include "system.inc"

HELD = 0
GAINED = 7

start:
        mov     esi, USER_ARGUMENTS
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .open
        inc     ecx
        jmp     .count
.open:
        xor     edx, edx
        SYSTEM  OPEN
        jc      disturbed
        mov     [handle], eax
        mov     [size], ecx
        xor     edi, edi
.next:
        cmp     edi, [size]
        jae     .end
        mov     ebx, [handle]
        mov     esi, edi
        xor     edx, edx
        mov     ecx, PAGE_SIZE
        SYSTEM  MAP_FILE
        jc      disturbed
        test    ecx, ecx
        jz      disturbed
        mov     al, [eax]
        add     edi, ecx
        jmp     .next
.end:
        mov     ebx, HELD
        SYSTEM  EXIT
disturbed:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .bss
        .align 4
handle: .space  4
size:   .space  4
