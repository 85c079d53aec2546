; The 8259A pair and the 8254 timer; the serial port's registers and first settings.

PIC1_COMMAND = 0x20
PIC1_DATA = 0x21
PIC2_COMMAND = 0xa0
PIC2_DATA = 0xa1
PIC_ICW1 = 0x11                 ; edge triggered, cascade, ICW4 follows
PIC_ICW4 = 0x01                 ; 8086 mode, normal end of interrupt
PIC_CASCADE_LINE = 2
PIC_EOI = 0x20
PIC_READ_ISR = 0x0b

PIT_CHANNEL0 = 0x40
PIT_COMMAND = 0x43
PIT_ONE_SHOT = 0x30             ; channel 0, low byte then high byte, mode 0

UART_DATA = 0x3f8
UART_INTERRUPTS = 0x3f9
UART_FIFO = 0x3fa
UART_LINE_CONTROL = 0x3fb
UART_MODEM_CONTROL = 0x3fc
UART_LINE_STATUS = 0x3fd
UART_MODEM_STATUS = 0x3fe
UART_8N1 = 0x03
UART_FIFO_ON = 0x07             ; enable, clear both
UART_FIFO_DROP = 0x03           ; stay enabled, clear what has been received
UART_BREAKS = 0x04              ; interrupts on line status, which is how a break shows; never masked
UART_INPUT = 0x0d               ; also on received data and on modem status
UART_OUT2 = 0x0b                ; DTR, RTS, OUT2: the last one gates the interrupt line

; interrupts_init: vectors 32 to 47, the lines that have handlers unmasked, serial port on.
;   clobbers:  eax, edx
;   state:     ring 0, IF=0
;   leaves by: ret
interrupts_init:
        mov     al, PIC_ICW1
        out     PIC1_COMMAND, al
        out     PIC2_COMMAND, al
        mov     al, VECTOR_IRQ
        out     PIC1_DATA, al
        mov     al, VECTOR_IRQ + 8
        out     PIC2_DATA, al
        mov     al, 1 << PIC_CASCADE_LINE
        out     PIC1_DATA, al
        mov     al, PIC_CASCADE_LINE
        out     PIC2_DATA, al
        mov     al, PIC_ICW4
        out     PIC1_DATA, al
        out     PIC2_DATA, al
        mov     al, PIC1_MASK
        out     PIC1_DATA, al
        mov     al, PIC2_MASK
        out     PIC2_DATA, al

        mov     dx, UART_LINE_CONTROL
        mov     al, UART_8N1
        out     dx, al
        mov     dx, UART_FIFO
        mov     al, UART_FIFO_ON
        out     dx, al
        mov     dx, UART_MODEM_CONTROL
        mov     al, UART_OUT2
        out     dx, al
        mov     dx, UART_INTERRUPTS
        mov     al, UART_INPUT
        out     dx, al
        ret

PIC1_MASK = 0xff & ~(1 << IRQ_TIMER | 1 << PIC_CASCADE_LINE | 1 << IRQ_SERIAL)
PIC2_MASK = 0xff & ~(1 << (IRQ_AHCI - 8) | 1 << (IRQ_IDE_PRIMARY - 8) | 1 << (IRQ_IDE_SECONDARY - 8))

; end_of_interrupt: tell the controllers that a line has been served.
;   in:        eax  vector, 32 to 47
;   clobbers:  eax
;   state:     IF=0
;   leaves by: ret
end_of_interrupt:
        cmp     eax, VECTOR_IRQ + 8
        mov     al, PIC_EOI
        jb      .master
        out     PIC2_COMMAND, al
.master:
        out     PIC1_COMMAND, al
        ret

; timer_arm: interrupt once, when policy has to decide again: at the end of a time slice, or when a sleep ends.
; With one runnable thread and no sleeper the timer does not run at all.
;   in:        arm_timer  PIT ticks, 1 to 65535
;   clobbers:  eax
;   state:     IF=0
;   leaves by: ret
timer_arm:
        mov     al, PIT_ONE_SHOT
        out     PIT_COMMAND, al
        mov     ax, [kernel_words + KernelWords.arm_timer]
        out     PIT_CHANNEL0, al
        mov     al, ah
        out     PIT_CHANNEL0, al
        mov     word ptr [kernel_words + KernelWords.arm_timer], 0
        ret

; timer_interrupt: the time slice is over, or a sleep ends.
;   clobbers:  eax
;   state:     IF=0
;   leaves by: ret
timer_interrupt:
        inc     dword ptr [kernel_words + KernelWords.ticks]
        HOST    TICK
        ret

; spurious: an interrupt without a driver.
spurious:
        ret
