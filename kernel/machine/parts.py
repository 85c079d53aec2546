"""The parts of a machine, for the code that drives them: the run loop, devices' hosts, snapshots.

`machine.Machine` is made of them and fits this protocol, so that the parts it makes need not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from callgate.kernel.machine.blocks.kinds import Counter
from callgate.kernel.machine.cpu.cpu import Cpu
from callgate.kernel.machine.cpu.translations import Translations
from callgate.kernel.machine.cpu.traps import Traps
from callgate.kernel.machine.devices.pic import InterruptController
from callgate.kernel.machine.devices.serial import Serial
from callgate.kernel.machine.engine.clock import Clock, EventQueue
from callgate.kernel.machine.engine.control import Control
from callgate.kernel.machine.engine.counter_state import CounterState
from callgate.kernel.machine.engine.port_buffer import PortBuffer
from callgate.kernel.machine.filters.filters import Filters
from callgate.kernel.machine.memory.bus import Device
from callgate.kernel.machine.memory.outside import Outside
from callgate.kernel.machine.memory.ram import Ram
from callgate.kernel.machine.observation.ledger import Ledger
from callgate.kernel.machine.observation.stream import EventStream


class Parts(Protocol):
    """The parts of a machine."""

    ram: Ram
    handle: Any  # the engine's raw handle; None once the machine is closed
    cpu: Cpu
    counter: Counter
    state: CounterState
    control: Control
    clock: Clock
    events: EventQueue
    ledger: Ledger
    stream: EventStream
    traps: Traps
    filters: Filters
    translations: Translations
    devices: dict[str, Device]
    pic: InterruptController
    serial: Serial
    console_buffer: PortBuffer | None
    quiescent: Callable[[], str | None]
    outside: Callable[[Outside], None]
    on_interrupt: Callable[[], bool] | None
    dma_watch: Callable[[int, int], None] | None
    participants: dict[str, tuple[Callable[[], object], Callable[[Any], None]]]

    def only_ticks(self) -> bool:
        """Whether nothing is to come but ticks of the timer, running periodically."""
        ...

    def name_address(self, place: int | str) -> str:
        """Return an address in hex, with its symbol if there is one."""
        ...
