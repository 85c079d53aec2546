"""The machine as one device sees it: `bus.Host`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.kernel.machine.parts import Parts


class DeviceHost:
    """What one device may do with its machine."""

    def __init__(self, machine: Parts, name: str) -> None:
        self.machine = machine
        self.name = name

    @property
    def clock(self) -> int:
        """The virtual time in ns."""
        return self.machine.clock.now

    def schedule(self, delay: int, token: Any) -> int:
        """Have `on_event(token)` called `delay` ns from now; `token` is plain data."""
        machine = self.machine
        machine.control.stop_soon()
        return machine.events.at(machine.clock.now + delay, self.name, token)

    def cancel(self, event: int) -> None:
        """Cancel an event; 0 is none."""
        if event:
            self.machine.events.cancel(event)

    def raise_line(self, irq: int) -> None:
        """Assert an interrupt line."""
        self.machine.pic.raise_line(irq)

    def lower_line(self, irq: int) -> None:
        """Deassert an interrupt line."""
        self.machine.pic.lower_line(irq)

    def memory(self, physical: int, length: int) -> memoryview:
        """Return RAM for DMA."""
        return self.machine.ram.view(physical, length, Account.DEVICE)

    def read_memory(self, physical: int, length: int) -> bytes:
        """Return a copy of RAM."""
        return self.machine.ram.read(physical, length, Account.DEVICE)

    def dma_done(self, physical: int, length: int, *, to_memory: bool) -> None:
        """Book a transfer; code that was translated from written pages is forgotten."""
        self.machine.ledger.dma_bytes["read" if to_memory else "write"] += length
        if self.machine.dma_watch is not None and to_memory:
            self.machine.dma_watch(physical, length)
        if to_memory:
            self.machine.translations.changed(physical, length)

    def outside(self, what: Outside) -> None:
        """Tell the machine of something that comes from outside, just before it takes effect."""
        self.machine.outside(what)

    def emit(self, kind: str, **fields: object) -> None:
        """Append an event to the stream."""
        if self.machine.stream.active:
            self.machine.stream.emit(kind, **fields)
