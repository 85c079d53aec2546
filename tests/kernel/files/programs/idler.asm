; Leaves a file alone for a while: reads its first byte, then sleeps and reads from a second file, PAUSES times;
; then writes the first page of the first file to the console.  Its argument is both paths with a blank between, or only
; the first: then it just sleeps.

        .include "system.inc"

PAUSES = 5
PAUSE = 300000000               ; nanoseconds

start:
        mov     esi, USER_ARGUMENTS
        mov     ebx, first
        call    open_word
        cmp     byte ptr [esi - 1], 0
        je      .opened
        mov     ebx, second
        call    open_word
.opened:
        mov     ebx, first
        call    file_peek
        jc      failed
        mov     al, [eax]
        mov     ebp, PAUSES
.pause:
        mov     ecx, PAUSE
        xor     edx, edx
        SYSTEM  SLEEP
        mov     ebx, second
        cmp     dword ptr [ebx + File.handle], 0
        je      .next
        call    file_peek
        jc      failed
        jecxz   .next
        mov     al, [eax]
        add     [second + File.position], ecx
.next:
        dec     ebp
        jnz     .pause

looked: mov     ebx, first
        call    file_peek
        jc      failed
        mov     esi, eax
        mov     ecx, PAGE_SIZE
        SYSTEM  WRITE
        xor     ebx, ebx
        SYSTEM  EXIT

; open_word: open the path at ESI, up to a blank or zero; ESI moves past it.
open_word:
        xor     ecx, ecx
.count:
        mov     al, [esi + ecx]
        cmp     al, ' '
        jbe     .open
        inc     ecx
        jmp     .count
.open:
        call    file_open
        jc      failed
        lea     esi, [esi + ecx + 1]
        ret

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .include "file.asm"

        .bss
        .align 4
first:  .space  sizeof(File)
second: .space  sizeof(File)
        .text
