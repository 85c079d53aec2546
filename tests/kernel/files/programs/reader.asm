; Writes a file to the console, in a way that the first letter of its argument names:
;   r  by file_read, in pieces of 10,007 bytes
;   p  from where file_peek says it lies
;   t  by touching the window from one end to the other, whatever the file's page says
;   b  the same, last page first; then the file is written from the window
;   e  as r, but an error is exit code 100 + ErrorCode after what could be read
;   c  by file_peek, but only the sum of all dwords is written
;   k  by touching the window, as c; without a handler for unreadable data
; The rest of the argument is the path.

        .include "system.inc"

PIECE = 10007

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS + 1
        call    open_argument
        mov     al, [USER_ARGUMENTS]
        cmp     al, 'p'
        je      peek
        cmp     al, 't'
        je      touch
        cmp     al, 'b'
        je      backwards
        xor     ebp, ebp
        cmp     al, 'c'
        je      sum
        cmp     al, 'k'
        je      sum_touched

read:
        mov     edi, buffer
        mov     ecx, PIECE
        call    file_read
        jc      failed
        test    eax, eax
        jz      finished
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        jmp     read

peek:
        call    file_peek
        jc      failed
        test    ecx, ecx
        jz      finished
        mov     esi, eax
        SYSTEM  WRITE
        jc      failed
        call    file_size
        add     [file + File.position], ecx
        jmp     peek

sum:
        call    file_peek
        jc      failed
        jecxz   sum_done
        add     [file + File.position], ecx
        call    add_up
        jmp     sum

sum_touched:
        call    first_byte
        call    file_size
        mov     ecx, eax
        mov     eax, esi
        call    add_up
sum_done:
        push    ebp
        mov     esi, esp
        mov     ecx, 4
        SYSTEM  WRITE
        jmp     finished

; add_up: add ECX / 4 dwords at EAX to EBP.
add_up: shr     ecx, 2
        jz      .none
.next:
        add     ebp, [eax]
        add     eax, 4
        dec     ecx
        jnz     .next
.none:
        ret

backwards:
        call    first_byte
        mov     ecx, [file + File.page]
        mov     ecx, [ecx + FilePage.size]
.page:
        sub     ecx, 1
        jc      touch
        mov     al, [esi + ecx]
        and     ecx, -PAGE_SIZE
        jmp     .page

touch:
        call    first_byte
        mov     ecx, [file + File.page]
        mov     ecx, [ecx + FilePage.size]
        SYSTEM  WRITE
        jc      failed

finished:
        call    file_close
        jc      failed
        xor     ebx, ebx
        SYSTEM  EXIT

; first_byte: ESI = where byte 0 lies.  The first peek brings data, and so the shift.
first_byte:
        call    file_peek
        jc      failed
        mov     ecx, [file + File.page]
        mov     esi, [file + File.window]
        add     esi, [ecx + FilePage.shift]
        ret

        .include "argument.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
buffer: .space  PIECE
        .text
