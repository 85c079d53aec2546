; Opens the file that its argument names, takes all the memory that its family may have, and requests the file's first
; byte whenever the file's state has changed: it may read data that others have had read, and request no more.

        .include "system.inc"

MOST = 256 * PAGE_SIZE

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS
        call    open_argument
        mov     ecx, MOST
.piece: SYSTEM  ALLOCATE
        jnc     .piece
        shr     ecx, 1
        test    ecx, PAGE_SIZE - 1
        jz      .piece
        ; ALLOCATE leaves room for a page table and one more; a large file's window takes both.
.again: mov     ebx, other
        mov     esi, USER_ARGUMENTS
        call    .open
        jnc     .again
full:
        mov     edi, [file + File.page]
.watch: mov     eax, [edi + FilePage.sequence]
        cmp     eax, [seen]
        je      .watch
        mov     [seen], eax
        mov     ebx, [file + File.handle]
        xor     edx, edx
        xor     esi, esi
        mov     ecx, 1
        SYSTEM  MAP_FILE
        jmp     full

start.open:
        xor     ecx, ecx
.count: inc     ecx
        cmp     byte ptr [esi + ecx], 0
        jne     .count
        jmp     file_open

        .include "argument.asm"

        .data
        .align 4
seen:   .long   -1
        .bss
        .align 4
file:   .space  sizeof(File)
other:  .space  sizeof(File)
        .text
