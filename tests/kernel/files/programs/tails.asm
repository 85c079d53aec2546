; Writes parts of files to the console.  The argument is a row of numbers of eight hexadecimal digits each; the file
; at /d0 that has a number as its name is opened and read from that byte on: four pieces, or to its end.

        .include "system.inc"

PIECE = 10007
PIECES = 4
DIGITS = 8

start:
        mov     esi, USER_ARGUMENTS
.file:
        cmp     byte ptr [esi], 0
        je      .end
        mov     edi, name
        xor     edx, edx
        mov     ecx, DIGITS
.digit:
        lodsb
        stosb
        sub     al, '0'
        cmp     al, 9
        jbe     .add
        sub     al, 'a' - '0' - 10
.add:
        movzx   eax, al
        shl     edx, 4
        add     edx, eax
        loop    .digit
        push    esi
        push    edx
        mov     ebx, file
        mov     esi, path
        mov     ecx, name + DIGITS - path
        call    file_open
        jc      failed
        pop     eax
        xor     edx, edx
        call    file_seek
        mov     ebp, PIECES
.read:
        mov     edi, buffer
        mov     ecx, PIECE
        call    file_read
        jc      failed
        test    eax, eax
        jz      .next
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        dec     ebp
        jnz     .read
.next:
        call    file_close
        pop     esi
        jmp     .file
.end:
        xor     ebx, ebx
        SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .include "file.asm"

        .data
path:   .ascii  "/d0/"
name:   .space  DIGITS
        .bss
        .align 4
file:   .space  sizeof(File)
buffer: .space  PIECE
        .text
