; The serial port: bytes and breaks in, bytes out.

; serial_interrupt: input has come, or a break, or the line has been hung up.  Bytes stay in the UART's FIFO
; until a reader takes them; the interrupt is acknowledged by masking it until then.
;   clobbers:  eax, edx
;   state:     IF=0
;   leaves by: ret
serial_interrupt:
        mov     dx, UART_LINE_STATUS
        in      al, dx
        test    al, UART_BREAK
        jz      .input
        call    serial_break
.input:
        mov     dx, UART_INTERRUPTS
        mov     al, UART_BREAKS
        out     dx, al
        mov     dx, UART_MODEM_STATUS
        in      al, dx
        xor     eax, eax
        HOST    INPUT
        ret

; serial_break: the line status has shown a break, and reading it has cleared it. As a terminal does (termios BRKINT),
; drop what has been typed; policy ends the program that runs and says which process is to take the break.
;   out:       console_break; ZF=0
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
serial_break:
        mov     dx, UART_FIFO
        mov     al, UART_FIFO_DROP
        out     dx, al
        mov     eax, 1
        HOST    INPUT
        test    eax, eax
        ret

; serial_read: take a byte of input.
;   out:       CF=0  al  byte        CF=1  none; ZF=1  there will be none, ZF=0  wait, unless there has been
;                                    a break, and try again
;   clobbers:  eax, edx, flags
;   state:     ring 0, any IF
;   leaves by: ret
serial_read:
        mov     dx, UART_LINE_STATUS
        in      al, dx
        test    al, UART_BREAK
        jnz     .break
        test    al, UART_DATA_READY
        jz      .none
        mov     dx, UART_DATA
        in      al, dx
        clc
        ret

.none:
        mov     dx, UART_MODEM_STATUS
        in      al, dx
        test    al, UART_CARRIER
        jz      .hung_up

        ; Unmask: the interrupt comes now if a byte has arrived since.
        mov     dx, UART_INTERRUPTS
        mov     al, UART_INPUT
        out     dx, al
        or      al, 1
        stc
        ret
.break:
        call    serial_break
        stc
        ret

.hung_up:
        xor     eax, eax
        stc
        ret

UART_DATA_READY = 0x01
UART_BREAK = 0x10
UART_CARRIER = 0x80

; serial_write: send bytes, a FIFO's worth or a page at a time, until the thread is killed.
;   in:        esi  linear address, ecx  bytes, not 0; fs  thread
;   clobbers:  eax, ecx, edx, edi, esi, flags
;   state:     ring 0, any IF; DS flat; faults on [esi] are the caller's to handle
;   leaves by: ret
serial_write:
        mov     dx, UART_LINE_STATUS
        in      al, dx
        test    al, UART_BREAK
        jnz     .break
.status:
        test    al, UART_TRANSMITTER_EMPTY
        jz      serial_write
        cmp     ecx, CONSOLE_DMA_LEAST
        jae     .page
.fifo:
        mov     edi, ecx
        cmp     ecx, UART_FIFO_SIZE
        jbe     .last
        mov     ecx, UART_FIFO_SIZE
.last:
        sub     edi, ecx
        mov     dx, UART_DATA
        rep     outsb
        mov     ecx, edi
.sent:
        test    ecx, ecx
        jz      .end
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jz      serial_write
.end:
        ret

        ; What lies in the page of ESI, by DMA.  The page may have to be fetched; from then on until the bytes have been
        ; read, no interrupt may take it away.
.page:
        mov     edi, PAGE_SIZE - 1
        and     edi, esi
        neg     edi
        add     edi, PAGE_SIZE
        cmp     edi, ecx
        jbe     .within
        mov     edi, ecx
.within:
        mov     al, [esi]
.touched:
        pushfd
        cli
        call    console_piece_of
        jc      .unmapped
        mov     eax, console_piece - KERNEL_BASE
        mov     dx, CONSOLE_DMA
        out     dx, eax
        in      eax, dx
        popfd
        cmp     eax, edi
        jne     .fifo                   ; there is no such device, or it does not reach that memory
        add     esi, edi
        sub     ecx, edi
        jmp     .sent
.unmapped:
        popfd
        jmp     .fifo

        ; Reading the status has taken the break from the interrupt, which would have asked for the next thread.
.break:
        push    eax
        call    serial_break
        call    yield
        pop     eax
        jmp     .status

; console_piece_of: put the physical address of a piece of one page of ring 3, which are all of 4 KiB, into console_piece.
; The page has been touched, so its directory and table are there: an address space keeps them to its end.
;   in:        esi  linear address, touched by this thread; edi  bytes, which do not cross a page
;   out:       console_piece; CF=1 if there is no page
;   clobbers:  eax, edx, flags
;   state:     ring 0, IF=0
;   leaves by: ret
console_piece_of:
        mov     eax, cr3
        and     eax, ~31
        mov     edx, esi
        shr     edx, 30
        mov     eax, [eax + edx * 8 + KERNEL_BASE]
        and     eax, -PAGE_SIZE
        mov     edx, esi
        shr     edx, 21
        and     edx, 511
        mov     eax, [eax + edx * 8 + KERNEL_BASE]
        and     eax, -PAGE_SIZE
        mov     edx, esi
        shr     edx, 12
        and     edx, 511
        lea     edx, [eax + edx * 8 + KERNEL_BASE]
        mov     eax, [edx]
        test    al, PTE_PRESENT
        jz      .none
        mov     edx, [edx + 4]
        and     edx, PHYSICAL_HIGH
        mov     [console_piece + 4], edx
        mov     edx, PAGE_SIZE - 1
        and     edx, esi
        and     eax, -PAGE_SIZE
        or      eax, edx
        mov     [console_piece], eax
        mov     [console_piece + CONSOLE_PIECE_BYTES], edi
        clc
        ret
.none:
        stc
        ret

UART_TRANSMITTER_EMPTY = 0x20
UART_FIFO_SIZE = 16
CONSOLE_DMA = 0x400
CONSOLE_PIECE_BYTES = 8                 ; after the physical address; then come zeros
CONSOLE_PIECE_SIZE = 16
CONSOLE_DMA_LEAST = 256                 ; for fewer bytes it does not pay
PHYSICAL_HIGH = 0x000fffff              ; of the upper half of an entry: the rest are flags

        .bss
        .align  16
console_piece:
        .space  CONSOLE_PIECE_SIZE
        .text
