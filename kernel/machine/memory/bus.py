"""The buses: what a device must offer, what the machine offers to a device, and which device answers an access."""

from collections.abc import Sequence
from typing import Any, Protocol

from callgate.kernel.machine.memory.outside import Outside


class DmaError(Exception):
    """A bus master named physical addresses that are not RAM."""

    def __init__(self, physical: int, length: int) -> None:
        super().__init__(f"no RAM at physical {physical:#x}, {length} bytes")
        self.physical = physical
        self.length = length


class Host(Protocol):
    """What a device may do.  Time is retired instructions plus idle time, in nanoseconds."""

    @property
    def clock(self) -> int:
        """The virtual time."""
        ...

    def schedule(self, delay: int, token: Any) -> int:
        """Have `on_event(token)` called `delay` ns from now; return a number for `cancel`."""
        ...

    def cancel(self, event: int) -> None:
        """Cancel an event; nothing happens if it has come already."""
        ...

    def raise_line(self, irq: int) -> None:
        """Assert interrupt line 0 to 15."""
        ...

    def lower_line(self, irq: int) -> None:
        """Deassert an interrupt line."""
        ...

    def memory(self, physical: int, length: int) -> memoryview:
        """Return RAM for a transfer of now, in either direction; DmaError if any of it is not RAM."""
        ...

    def read_memory(self, physical: int, length: int) -> bytes:
        """Return a copy of RAM; DmaError if any of it is not RAM."""
        ...

    def dma_done(self, physical: int, length: int, *, to_memory: bool) -> None:
        """Book a transfer; code that the machine has translated from written pages is dropped."""
        ...

    def outside(self, what: Outside) -> None:
        """Tell of something that comes from outside, just before it takes effect."""
        ...

    def emit(self, kind: str, **fields: object) -> None:
        """Append an event to the stream."""
        ...


class Device(Protocol):
    """A device on the port and memory buses; its state is plain data."""

    @property
    def name(self) -> str:
        """Its name in events and snapshots; unique in a machine."""
        ...

    @property
    def ports(self) -> Sequence[range]:
        """The ports that it answers."""
        ...

    @property
    def emits(self) -> Sequence[str]:
        """The kinds of its events in the stream."""
        ...

    @property
    def mmio(self) -> Sequence[tuple[int, int]]:
        """The registers in memory that it answers: (physical base on a page, bytes)."""
        ...

    def attach(self, host: Host) -> None:
        """Take the machine's services."""
        ...

    def reset(self) -> None:
        """Go to the state after power-on."""
        ...

    def port_read(self, port: int, size: int) -> int:
        """Answer IN of 1, 2 or 4 bytes."""
        ...

    def port_write(self, port: int, size: int, value: int) -> None:
        """Take OUT of 1, 2 or 4 bytes."""
        ...

    def mmio_read(self, address: int, size: int) -> int:
        """Answer a load from a physical address of `mmio`."""
        ...

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Take a store to a physical address of `mmio`."""
        ...

    def on_event(self, token: Any) -> None:
        """An event that this device scheduled has come."""
        ...

    def save(self) -> object:
        """Return the state for a snapshot: plain data.  Tuples of numbers are restored sooner than lists and dicts."""
        ...

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        ...


class DeviceBase:
    """A device without ports, registers or state, to inherit from."""

    name = "device"
    ports: Sequence[range] = ()
    emits: Sequence[str] = ()
    mmio: Sequence[tuple[int, int]] = ()
    host: Host

    def attach(self, host: Host) -> None:
        """Take the machine's services."""
        self.host = host

    def reset(self) -> None:
        """Go to the state after power-on."""

    def port_read(self, port: int, size: int) -> int:
        """Answer as an empty bus does."""
        del port
        return (1 << 8 * size) - 1

    def port_write(self, port: int, size: int, value: int) -> None:
        """Ignore it."""

    def mmio_read(self, address: int, size: int) -> int:
        """Answer as an empty bus does."""
        del address
        return (1 << 8 * size) - 1

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Ignore it."""

    def on_event(self, token: Any) -> None:
        """Ignore it."""

    def save(self) -> object:
        """Return the state for a snapshot."""
        return None

    def load(self, state: Any) -> None:
        """Go back to a saved state."""

    def __repr__(self) -> str:
        places = [f"ports {ports.start:#x} to {ports[-1]:#x}" for ports in self.ports]
        places += [f"registers at {base:#x}" for base, _ in self.mmio]
        return f"<{type(self).__name__} {self.name!r}{', ' if places else ''}{', '.join(places)}>"


class PortBus:
    """Which device answers which of the 65,536 ports; an unclaimed one reads as all ones."""

    def __init__(self) -> None:
        self.devices: dict[int, Device] = {}

    def attach(self, device: Device) -> None:
        """Give a device its ports; ValueError if one is taken."""
        for ports in device.ports:
            for port in ports:
                if port in self.devices:
                    raise ValueError(f"port {port:#x} of {device.name} belongs to {self.devices[port].name}")
                self.devices[port] = device

    def read(self, port: int, size: int) -> int:
        """Return what IN loads."""
        device = self.devices.get(port)
        mask = (1 << 8 * size) - 1
        return mask if device is None else device.port_read(port, size) & mask

    def write(self, port: int, size: int, value: int) -> None:
        """Do what OUT does."""
        device = self.devices.get(port)
        if device is not None:
            device.port_write(port, size, value & (1 << 8 * size) - 1)
