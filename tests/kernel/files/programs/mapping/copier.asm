; Copies a file to another from window to window, as much at once as the first one shows.  Its argument is both paths
; with a blank between.  The exit code is 0, or 100 + ErrorCode when data are not available.

        .include "system.inc"

start:
        mov     esi, USER_ARGUMENTS
        call    word_length
        mov     ebx, source
        call    file_open
        jc      failed
        lea     esi, [esi + ecx + 1]
        call    word_length
        mov     ebx, target
        call    file_open_to_write
        jc      failed
.piece:
        mov     ebx, source
        call    file_peek
        jc      failed
        jecxz   .end
        mov     esi, eax
        mov     ebx, target
        call    file_write
        jc      failed
        add     [source + File.position], eax
        adc     dword ptr [source + File.position + 4], 0
        jmp     .piece
.end:
        xor     ebx, ebx
        SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

; word_length: bytes of the word at esi, up to a blank or zero, in ecx; clobbers eax.
word_length:
        xor     ecx, ecx
.count:
        mov     al, [esi + ecx]
        cmp     al, ' '
        jbe     .end
        inc     ecx
        jmp     .count
.end:   ret

        .include "file.asm"

        .bss
        .align 4
source: .space  sizeof(File)
target: .space  sizeof(File)
        .text
