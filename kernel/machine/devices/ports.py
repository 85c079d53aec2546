"""IN and OUT: permission to use a port, host calls, and the devices at the other ports.

Unicorn checks no permission.  Here CPL is compared with IOPL and the TSS's I/O permission bitmap (Intel SDM vol. 1,
19.5) before anything happens, so user code reaches neither device nor host call.

Code in the kernel's gigabyte passes without a check of CPL, because its pages are supervisor pages: that
makes a host call cheap.  A kernel must not map user pages at KERNEL_BASE and above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.engine.counter_state import take_back_stores
from callgate.kernel.machine.memory.bus import PortBus

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.engine.counter_state import CounterState
    from callgate.kernel.machine.engine.port_buffer import PortBuffer
    from callgate.kernel.machine.observation.ledger import Ledger

IO_MAP_BASE = 102  # offset of the bitmap's offset in a 32-bit TSS
HostFunction = Callable[[int], None]


class HostCalls:
    """The ports by which ring 0 asks Python: `out port, eax`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.functions: dict[int, tuple[HostFunction, str, Mapping[int, str]]] = {}
        self.buffered: PortBuffer | None = None
        self.answered: Callable[[], None] | None = None  # called after each

    def register(self, port: int, function: HostFunction, name: str, names: Mapping[int, str] | None = None) -> None:
        """Answer OUT to `port` (0 to 65535) from ring 0 with `function(eax)`, counted under `name`.

        Where EAX says which of many calls it is, each is counted under its own name in `names`, if it has one.
        ValueError if there is no such port, or it is taken. OUT from a ring above 0 never arrives here, whatever IOPL.
        """
        port = int(port)
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"{port:#x} is not a port")
        if port in self.functions:
            raise ValueError(f"port {port:#x} belongs to the host call {self.functions[port][1]!r}")
        if self.buffered is not None and port in self.buffered.ports:
            self.buffered.close()
        self.functions[port] = (function, name, names or {})

    def __repr__(self) -> str:
        known = (f"{port:#x} {name}" for port, (_, name, _) in sorted(self.functions.items()))
        return f"<host calls {', '.join(known) or 'none'}>"


class Ports:
    """What OUT and IN do."""

    def __init__(
        self, cpu: Cpu, state: CounterState, paging: Paging, ledger: Ledger, refuse: Callable[[int, int], None]
    ) -> None:
        """`refuse(vector, error code)` makes the instruction a fault."""
        self.cpu = cpu
        self.state = state
        self.paging = paging
        self.refuse = refuse
        self.ledger = ledger
        self.counts = ledger.host_calls
        self.bus = PortBus()
        self.host_calls = HostCalls(ledger)
        self.functions = self.host_calls.functions
        self.devices = self.bus.devices

    def out(self, port: int, size: int, value: int) -> None:
        """Take OUT or one step of OUTS."""
        self.ledger.plain_since = None
        if not self.state.in_kernel:
            cpl = self.cpu.cpl
            if cpl:
                if self.allowed(cpl, port, size):
                    self.bus.write(port, size, value)
                else:
                    self.refuse(13, 0)
                return
        entry = self.functions.get(port)
        if entry is None:
            device = self.devices.get(port)
            if device is not None:
                device.port_write(port, size, value)
        else:
            function, name, names = entry
            self.counts[names.get(value, name) if names else name] += 1
            ram = self.paging.ram
            ram.guarded = True
            try:
                function(value)
            finally:
                ram.guarded = False
            if self.host_calls.answered is not None:
                self.host_calls.answered()

    def in_(self, port: int, size: int) -> int:
        """Answer IN or one step of INS."""
        self.ledger.plain_since = None
        if not self.state.in_kernel:
            cpl = self.cpu.cpl
            if cpl and not self.allowed(cpl, port, size):
                self.refuse(13, 0)
                return 0
        take_back_stores(self.state)
        return self.bus.read(port, size)

    def allowed(self, cpl: int, port: int, size: int) -> bool:
        """CPL against IOPL, then every bit of the bitmap that the access covers."""
        if cpl <= self.cpu.eflags >> 12 & 3:
            return True
        base, limit = self.cpu.table("tr")
        if limit < IO_MAP_BASE + 1:
            return False
        try:
            offset = int.from_bytes(self.paging.read_linear(base + IO_MAP_BASE, 2), "little")
            if offset + port // 8 + 1 > limit:
                return False
            bits = int.from_bytes(self.paging.read_linear(base + offset + port // 8, 2), "little")
        except PageFault:
            return False
        return not bits >> port % 8 & (1 << size) - 1
