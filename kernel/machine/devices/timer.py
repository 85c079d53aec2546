"""Channel 0 of an 8254 timer, counting 1,193,182 Hz of virtual time.

Modes 0 (interrupt on terminal count) and 2 (rate generator), access low byte then high byte, counter
latch and the status part of the read-back command (8254 data sheet).  OUT drives interrupt line 0.
"""

from operator import attrgetter
from typing import Any, Final

from callgate.kernel.common.record import names_in, record
from callgate.kernel.machine.memory.bus import DeviceBase

HZ = 1_193_182
SECOND = 1_000_000_000
CHANNEL0 = 0x40
COMMAND = 0x43


@record(eq=True)
class TimerState:
    """The channel's registers."""

    mode: int = 0
    access: int = 3  # 1 low byte, 2 high byte, 3 both
    low: int | None = None  # low byte written, high byte awaited
    reload: int = 0
    started: int | None = None  # clock when counting began
    event: int = 0
    latch: int | None = None
    read_high: bool = False


REGISTERS: Final = attrgetter(*names_in(TimerState))


class Timer(DeviceBase):
    """Channel 0; channels 1 and 2 are absent and read as zero."""

    name = "timer"
    ports = (range(CHANNEL0, COMMAND + 1),)

    def __init__(self) -> None:
        self.state = TimerState()

    @property
    def periodic(self) -> bool:
        """Whether it ticks again and again."""
        return self.state.mode == 2

    def reset(self) -> None:
        """Stop counting."""
        self.state = TimerState()

    def port_write(self, port: int, size: int, value: int) -> None:
        """Take a control word or half of a count."""
        del size
        if port == COMMAND:
            self._control(value)
        elif port == CHANNEL0:
            self._load(value & 0xFF)

    def _control(self, value: int) -> None:
        if value >> 6:
            return
        access = value >> 4 & 3
        if access == 0:
            self.state.latch = self._count()
            return
        self.host.cancel(self.state.event)
        self.host.lower_line(0)
        self.state = TimerState(mode=value >> 1 & 3, access=access)

    def _load(self, value: int) -> None:
        state = self.state
        if state.access == 3 and state.low is None:
            state.low = value
            return
        count = {1: value, 2: value << 8, 3: value << 8 | (state.low or 0)}[state.access]
        state.low = None
        state.reload = count or 0x10000
        self.host.cancel(state.event)
        self.host.lower_line(0)
        state.started = self.host.clock
        state.event = self.host.schedule(nanoseconds(state.reload), 1)

    def on_event(self, token: Any) -> None:
        """Terminal count: OUT goes high; mode 2 begins anew."""
        state = self.state
        self.host.lower_line(0)
        self.host.raise_line(0)
        if state.mode == 2 and state.started is not None:
            # Exact multiples of the period, so that rounding never adds up.
            elapsed = int(token) + 1
            due = state.started + nanoseconds(state.reload * elapsed)
            state.event = self.host.schedule(max(1, due - self.host.clock), elapsed)

    def port_read(self, port: int, size: int) -> int:
        """Return the count, low byte then high byte."""
        del size
        if port != CHANNEL0:
            return 0
        state = self.state
        value = self._count() if state.latch is None else state.latch
        high, state.read_high = state.read_high, state.access == 3 and not state.read_high
        if high or state.access == 2:
            state.latch = None
            return value >> 8
        if state.access == 1:
            state.latch = None
        return value & 0xFF

    def _count(self) -> int:
        state = self.state
        if state.started is None:
            return 0
        ticks = (self.host.clock - state.started) * HZ // SECOND
        if state.mode == 2:
            return (state.reload - ticks % state.reload) & 0xFFFF
        return (state.reload - ticks) & 0xFFFF

    def save(self) -> object:
        """Return the registers as plain data."""
        return REGISTERS(self.state)

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        if REGISTERS(self.state) != state:
            self.state = TimerState(*state)


def nanoseconds(ticks: int) -> int:
    """Return how long `ticks` last, rounded up."""
    return -(-ticks * SECOND // HZ)
