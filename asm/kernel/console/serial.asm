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

; serial_write: send bytes, a FIFO's worth at a time, until the thread is killed.
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
        mov     edi, ecx
        cmp     ecx, UART_FIFO_SIZE
        jbe     .last
        mov     ecx, UART_FIFO_SIZE
.last:
        sub     edi, ecx
        mov     dx, UART_DATA
        rep     outsb
        mov     ecx, edi
        test    ecx, ecx
        jz      .end
        test    dword ptr fs:[ThreadControlBlock.flags], ThreadFlags.KILLED
        jz      serial_write
.end:
        ret

        ; Reading the status has taken the break from the interrupt, which would have asked for the next thread.
.break:
        push    eax
        call    serial_break
        call    yield
        pop     eax
        jmp     .status

UART_TRANSMITTER_EMPTY = 0x20
UART_FIFO_SIZE = 16
