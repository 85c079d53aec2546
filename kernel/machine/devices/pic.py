"""The pair of 8259A interrupt controllers of a PC: fifteen lines, edge triggered, fixed priorities.

Modelled after the 8259A data sheet: initialisation words 1 to 4, mask (OCW1), specific and non-specific
end of interrupt (OCW2), reading of IRR and ISR (OCW3), cascade on line 2, spurious interrupts.  Not
modelled, and reported as ignored: rotation of priorities, special mask mode, polling, level triggering.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from callgate.kernel.common.record import names_in, record
from callgate.kernel.machine.memory.bus import DeviceBase

ICW1 = 0x10
ICW1_NEEDS_ICW4 = 0x01
ICW4_AUTO_EOI = 0x02
OCW3 = 0x08
OCW2_EOI = 0x20
OCW2_SPECIFIC = 0x40
CASCADE = 2
SPURIOUS = 7


@record(eq=True)
class Controller:
    """One 8259A."""

    base: int = 0  # vector of line 0
    mask: int = 0xFF
    requested: int = 0  # IRR
    in_service: int = 0  # ISR
    levels: int = 0  # lines as they are now, to see edges
    read_service: bool = False
    auto_eoi: bool = False
    step: int = 0  # initialisation word expected next; 0 = none
    needs_icw4: bool = False

    def command(self, value: int) -> None:
        """Take a write to the command port."""
        if value & ICW1:
            self.mask = self.requested = self.in_service = 0
            self.read_service = self.auto_eoi = False
            self.needs_icw4 = bool(value & ICW1_NEEDS_ICW4)
            self.step = 2
        elif value & OCW3:
            if value & 2:
                self.read_service = bool(value & 1)
        elif value & OCW2_EOI:
            line = value & 7 if value & OCW2_SPECIFIC else self.highest(self.in_service)
            if line is not None:
                self.in_service &= ~(1 << line)

    def data(self, value: int) -> None:
        """Take a write to the data port: an initialisation word, or the mask."""
        if self.step == 2:
            self.base = value & 0xF8
            self.step = 3
        elif self.step == 3:
            self.step = 4 if self.needs_icw4 else 0
        elif self.step == 4:
            self.auto_eoi = bool(value & ICW4_AUTO_EOI)
            self.step = 0
        else:
            self.mask = value

    @staticmethod
    def highest(lines: int) -> int | None:
        """Return the line of highest priority (lowest number) in a mask."""
        return (lines & -lines).bit_length() - 1 if lines else None

    def pending(self) -> int | None:
        """Return the line that would interrupt now: requested, unmasked, above what is in service."""
        wanted = self.requested & ~self.mask
        if not wanted:
            return None
        line = self.highest(wanted)
        service = self.highest(self.in_service)
        if line is None or (service is not None and service <= line):
            return None
        return line

    def acknowledge(self) -> int:
        """Answer INTA: return the line, 7 without service if the request has gone."""
        line = self.pending()
        if line is None:
            return SPURIOUS
        self.requested &= ~(1 << line)
        if not self.auto_eoi:
            self.in_service |= 1 << line
        return line

    def set_level(self, line: int, level: bool) -> None:
        """Drive a line; a rising edge requests, a falling one withdraws an unserved request."""
        bit = 1 << line
        if level and not self.levels & bit:
            self.requested |= bit
        if not level:
            self.requested &= ~bit
        self.levels = self.levels | bit if level else self.levels & ~bit


REGISTERS: Final = attrgetter(*names_in(Controller))


class InterruptController(DeviceBase):
    """Master at 0x20, slave at 0xA0 on the master's line 2."""

    name = "pic"
    ports = (range(0x20, 0x22), range(0xA0, 0xA2))

    def __init__(self) -> None:
        self.master = Controller()
        self.slave = Controller()
        self.notify: Callable[[], None] = lambda: None  # INTR is asserted: check before the next instruction

    def reset(self) -> None:
        """Mask every line until the controllers are initialised."""
        self.master, self.slave = Controller(), Controller()

    def port_write(self, port: int, size: int, value: int) -> None:
        """Command ports are even, data ports odd."""
        del size
        controller = self.master if port < 0xA0 else self.slave
        (controller.data if port & 1 else controller.command)(value & 0xFF)
        self._cascade()

    def port_read(self, port: int, size: int) -> int:
        """Return the mask, or IRR or ISR as OCW3 chose."""
        del size
        controller = self.master if port < 0xA0 else self.slave
        if port & 1:
            return controller.mask
        return controller.in_service if controller.read_service else controller.requested

    def raise_line(self, irq: int) -> None:
        """Assert line 0 to 15."""
        self._drive(irq, True)

    def lower_line(self, irq: int) -> None:
        """Deassert a line."""
        self._drive(irq, False)

    def _drive(self, irq: int, level: bool) -> None:
        if irq < 8:
            self.master.set_level(irq, level)
        else:
            self.slave.set_level(irq - 8, level)
        self._cascade()

    def _cascade(self) -> None:
        wanted = self.slave.pending() is not None
        if wanted:
            self.master.requested |= 1 << CASCADE
        else:
            self.master.requested &= ~(1 << CASCADE)
        if self.pending():
            self.notify()

    def pending(self) -> bool:
        """Whether INTR is asserted."""
        master = self.master
        return bool(master.requested & ~master.mask) and master.pending() is not None

    def acknowledge(self) -> int:
        """Answer the CPU's interrupt acknowledge with a vector."""
        line = self.master.acknowledge()
        if line == CASCADE:
            vector = self.slave.base + self.slave.acknowledge()
        else:
            vector = self.master.base + line
        self._cascade()
        return vector

    def save(self) -> object:
        """Return both controllers as plain data."""
        return REGISTERS(self.master), REGISTERS(self.slave)

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        master, slave = state
        if REGISTERS(self.master) != master:  # to look is faster than to make one
            self.master = Controller(*master)
        if REGISTERS(self.slave) != slave:
            self.slave = Controller(*slave)
