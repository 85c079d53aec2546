"""The serial console: a 16550A UART at 0x3F8, line 4.

Output leaves at once; input is asked for only when the guest has nothing else to do, so that scripted
input never depends on how fast the host is.  The end of input drops carrier (DCD in the modem status
register), as a modem that hangs up does.  A break must reach a guest that does not read: it interrupts before all bytes
that wait.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import field
from operator import attrgetter
from typing import Any, Final

from callgate.kernel.common.record import names_in, record
from callgate.kernel.machine.engine.port_buffer import PortBuffer
from callgate.kernel.machine.memory.bus import DeviceBase
from callgate.kernel.machine.memory.outside import Break, HangUp, Input

BASE = 0x3F8
IRQ = 4
DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)
IER_RECEIVE, IER_TRANSMIT, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_TRANSMIT, IIR_RECEIVE, IIR_LINE = 0x01, 0x00, 0x02, 0x04, 0x06
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RECEIVE = 1, 2
LCR_DLAB = 0x80
MCR_OUT2, MCR_LOOP = 0x08, 0x10
LSR_DATA, LSR_BREAK, LSR_EMPTY = 0x01, 0x10, 0x60
MSR_DCTS, MSR_DDCD = 0x01, 0x08
MSR_CTS, MSR_DSR, MSR_DCD = 0x10, 0x20, 0x80
FIFO_SIZE = 16
SENT_AT_ONCE = 4096  # bytes that are handed to `output` together


@record(eq=True)
class UartState:
    """The registers."""

    ier: int = 0
    lcr: int = 3
    mcr: int = 0
    scr: int = 0
    divisor: int = 1
    fifo: bool = False
    modem: int = MSR_CTS | MSR_DSR | MSR_DCD
    transmit_pending: bool = False
    broken: bool = False
    received: list[int] = field(default_factory=list)


NUMBERS: Final = tuple(name for name in names_in(UartState) if name != "received")
NUMBERS_OF: Final = attrgetter(*NUMBERS)


class Serial(DeviceBase):
    """The UART; `output` is called with bytes that the guest sends, `source` asked for input when the guest idles."""

    name = "serial"
    ports = (range(BASE, BASE + 8),)

    def __init__(
        self,
        output: Callable[[bytes], None] | None = None,
        source: Callable[[int], bytes | None] | None = None,
        buffer: PortBuffer | None = None,
    ) -> None:
        """`source(n)` returns up to n bytes, waiting for at least one; b"" or None at the end of input.

        `buffer` gathers bytes to send while they do nothing else: no loopback, divisor or transmit interrupt.
        """
        self.buffer = buffer
        self.output = output or (lambda _data: None)
        self.source = source
        self.state = UartState()
        self.sent = bytearray()
        self.waiting: deque[int] = deque()
        self.asserted = False

    def reset(self) -> None:
        """Disable interrupts, empty the FIFOs; carrier stays up."""
        self._collect()
        self.state = UartState()
        self._make_room()
        self._update()

    def feed(self, data: bytes) -> None:
        """Let bytes arrive; those that exceed the FIFO wait outside until there is room."""
        if data:
            self.host.outside(Input(bytes(data)))
        self.waiting.extend(data)
        self._refill()

    def send_break(self) -> bool:
        """Hold the line in the space condition for longer than a character: BI in the LSR, a zero in the FIFO.

        False, and nothing happens, if the guest does not listen for breaks or has not seen the last one.
        """
        state = self.state
        if state.broken or not state.ier & IER_LINE:
            return False
        self.host.outside(Break())
        state.broken = True
        self.waiting.append(0)
        self._refill()
        return True

    def hang_up(self) -> None:
        """Drop carrier: there will be no more input."""
        if self.state.modem & MSR_DCD:
            self.host.outside(HangUp())
            self.state.modem = self.state.modem & ~MSR_DCD | MSR_DDCD
            self._update()

    def idle(self) -> bool:
        """Ask the source for input, because the guest has nothing else to do; False if there was none."""
        if self.state.received or self.waiting or not self.state.modem & MSR_DCD or self.source is None:
            return False
        self.flush()
        data = self.source(FIFO_SIZE)
        if data:
            self.feed(data)
        else:
            self.hang_up()
        return True

    def send(self, data: bytes) -> None:
        """Send bytes that come by DMA, after those that were written to the data register."""
        self._collect()
        self.sent += data
        self.state.transmit_pending = True
        if len(self.sent) >= SENT_AT_ONCE:
            self.flush()
        self._make_room()
        self._update()

    def flush(self) -> None:
        """Hand the bytes that the guest has sent to `output`."""
        self._collect()
        if self.sent:
            data, self.sent = bytes(self.sent), bytearray()
            self._make_room()
            self.output(data)

    def _collect(self) -> bool:
        """Take the bytes that the buffer has gathered, as if each had just been written to the data register.

        Return whether there were any.
        """
        if self.buffer is not None and (gathered := self.buffer.take()):
            self.sent += gathered
            self.state.transmit_pending = True
            return True
        return False

    def _make_room(self) -> None:
        """Let the buffer gather bytes up to the next flush, if they change nothing else until then."""
        if self.buffer is not None:
            state = self.state
            plain = not (state.lcr & LCR_DLAB or state.mcr & MCR_LOOP or state.ier & IER_TRANSMIT)
            self.buffer.make_room(SENT_AT_ONCE - 1 - len(self.sent) if plain else 0)

    def port_write(self, port: int, size: int, value: int) -> None:
        """Take a register write; the bus splits one of several bytes into as many for the ports from there on."""
        self._collect()
        for index in range(min(size, BASE + len(self.ports[0]) - port)):
            self._write(port - BASE + index, value >> 8 * index & 0xFF)
        self._make_room()

    def _write(self, register: int, value: int) -> None:
        state = self.state
        if register == DATA:
            self._write_data(value)
            if not state.ier & IER_TRANSMIT and not state.mcr & MCR_LOOP:
                return  # the interrupt line does not depend on what has changed
        elif register == IER and state.lcr & LCR_DLAB:
            state.divisor = state.divisor & 0xFF | value << 8
        elif register == IER:
            state.transmit_pending = state.transmit_pending or not state.ier & IER_TRANSMIT
            state.ier = value & 0x0F
        elif register == IIR_FCR:
            state.fifo = bool(value & FCR_ENABLE)
            if value & FCR_CLEAR_RECEIVE:
                state.received.clear()
                self._refill()
        elif register in (LCR, MCR, SCR):
            setattr(state, {LCR: "lcr", MCR: "mcr", SCR: "scr"}[register], value)
        self._update()

    def _write_data(self, value: int) -> None:
        state = self.state
        if state.lcr & LCR_DLAB:
            state.divisor = state.divisor & 0xFF00 | value
        elif state.mcr & MCR_LOOP:
            state.received.append(value)
        else:
            self.sent.append(value)
            state.transmit_pending = True
            if len(self.sent) >= SENT_AT_ONCE:
                self.flush()

    def port_read(self, port: int, size: int) -> int:
        """Return a register; reading data, IIR, LSR and MSR changes them."""
        del size
        state, register = self.state, port - BASE
        if register == DATA:
            return state.divisor & 0xFF if state.lcr & LCR_DLAB else self._read_data()
        if register == IER:
            return state.divisor >> 8 if state.lcr & LCR_DLAB else state.ier
        if register == IIR_FCR:
            self._collect()
            self._make_room()
            cause = self._cause()
            if cause == IIR_TRANSMIT:
                state.transmit_pending = False
                self._update()
            return cause | (IIR_FIFO if state.fifo else 0)
        if register == LSR:
            value = self._line_status() | LSR_BREAK * state.broken
            state.broken = False
            self._update()
            return value
        if register == MSR:
            value, state.modem = state.modem, state.modem & 0xF0
            self._update()
            return value
        return {LCR: state.lcr, MCR: state.mcr, SCR: state.scr}[register]

    def _line_status(self) -> int:
        return LSR_EMPTY | (LSR_DATA if self.state.received else 0)

    def _read_data(self) -> int:
        if not self.state.received:
            return 0
        value = self.state.received.pop(0)
        self._refill()
        self._update()
        return value

    def _refill(self) -> None:
        room = FIFO_SIZE if self.state.fifo else 1
        while self.waiting and len(self.state.received) < room:
            self.state.received.append(self.waiting.popleft())
        self._update()

    def _cause(self) -> int:
        state = self.state
        if state.ier & IER_LINE and state.broken:
            return IIR_LINE
        if state.ier & IER_RECEIVE and state.received:
            return IIR_RECEIVE
        if state.ier & IER_TRANSMIT and state.transmit_pending:
            return IIR_TRANSMIT
        if state.ier & IER_MODEM and state.modem & 0x0F:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        """Drive the interrupt line; OUT2 gates it on a PC."""
        if self.buffer is not None:
            self.buffer.answer(None if self.state.broken else self._line_status())
        wanted = self._cause() != IIR_NONE and bool(self.state.mcr & MCR_OUT2)
        if wanted != self.asserted:
            self.asserted = wanted
            (self.host.raise_line if wanted else self.host.lower_line)(IRQ)

    def save(self) -> object:
        """Return the registers and the bytes that wait outside, as plain data."""
        if self._collect():
            self._make_room()
        return NUMBERS_OF(self.state), tuple(self.state.received), tuple(self.waiting), self.asserted

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        registers, received, waiting, asserted = state
        present = NUMBERS_OF(self.state), tuple(self.state.received), tuple(self.waiting), self.asserted
        if present == state and (self.buffer is None or not self.buffer.state.used):
            return  # and so is what the buffer has been told
        self._collect()
        self.asserted = asserted
        if NUMBERS_OF(self.state) != registers:
            for name, value in zip(NUMBERS, registers, strict=True):
                setattr(self.state, name, value)
        self.state.received = list(received)
        self.waiting = deque(waiting)
        self._make_room()
        if self.buffer is not None:
            self.buffer.answer(None)
