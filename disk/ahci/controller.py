"""An AHCI 1.3.1 controller: generic host control, up to 32 ports with one drive each.

The register file and the rules for starting and stopping ports are here; a port's commands are in
`ahci_port`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from callgate.disk.ahci.port import READABLE, Port
from callgate.disk.drives.latency import Latency
from callgate.disk.media import Medium
from callgate.kernel.abi.disks.ahci import (
    AHCI_PORT_BASE,
    AHCI_PORT_SHIFT,
    AHCI_PORTS,
    Capabilities,
    HbaRegisters,
    HostControl,
    PortRegisters,
)
from callgate.kernel.abi.layout import field_names, offset_of
from callgate.kernel.machine.memory.bus import DeviceBase, Host

__all__ = ["MMIO_BASE", "MMIO_SIZE", "AhciController", "Latency"]

MMIO_BASE = 0xFEBF_0000
MMIO_SIZE = 0x2000
IRQ = 11
COMMAND_SLOTS = 32

HBA_READABLE = {"cap": "capabilities", "ghc": "ghc", "is_": "interrupts", "pi": "implemented", "vs": "version"}
PORT_NAMES = {offset_of(PortRegisters, name): name for name in field_names(PortRegisters)}


class AhciController(DeviceBase):
    """The HBA."""

    name = "ahci"
    emits = ("disk.command", "disk.complete", "disk.error", "disk.unplug")
    mmio: Sequence[tuple[int, int]] = ((MMIO_BASE, MMIO_SIZE),)
    version = 0x0001_0301

    def __init__(
        self,
        media: Sequence[Medium | None],
        *,
        latency: Latency | None = None,
        ncq: bool = True,
        irq: int = IRQ,
        base: int = MMIO_BASE,
    ) -> None:
        """Connect `media` to ports 0, 1, …; None is a port without a drive.  At most 32.

        `irq` is the interrupt line, `base` the physical address of the registers, page-aligned.
        """
        if len(media) > AHCI_PORTS:
            raise ValueError(f"an AHCI controller has {AHCI_PORTS} ports, {len(media)} disks are given")
        self.irq = irq
        self.base = base
        self.mmio = ((base, MMIO_SIZE),)
        self.latency = latency or Latency()
        self.ncq = ncq
        count = max(1, len(media))
        slots = [*media, *([None] * (count - len(media)))]
        self.drives = [Port(number, medium, self.latency, ncq=ncq) for number, medium in enumerate(slots)]
        self.readers = self._readers()
        self.ghc = int(HostControl.AE)
        self.interrupts = 0
        self.saved: object = None  # its state, as long as nothing has touched it since

    def attach(self, host: Host) -> None:
        """Keep the machine's side, for the ports too."""
        super().attach(host)
        for drive in self.drives:
            drive.host = host

    @property
    def capabilities(self) -> int:
        """CAP: 64-bit addresses, 32 slots, AHCI only, NCQ if enabled (3.1.1)."""
        value = (
            Capabilities.S64A
            | Capabilities.SAM
            | Capabilities.SMPS
            | (COMMAND_SLOTS - 1) << 8
            | 2 << 20
            | len(self.drives) - 1
        )
        return int(value | (Capabilities.SNCQ if self.ncq else 0))

    @property
    def implemented(self) -> int:
        """PI: a bit for each port (3.1.4)."""
        return (1 << len(self.drives)) - 1

    def reset(self) -> None:
        """HBA reset (10.4.3)."""
        self.saved = None
        self.ghc = int(HostControl.AE)
        self.interrupts = 0
        for drive in self.drives:
            drive.reset()

    # Registers.

    def _readers(self) -> dict[int, Callable[[], int]]:
        """Return the handler of each register, by physical address: a driver that polls reads one a million times."""
        readers: dict[int, Callable[[], int]] = {
            self.base + offset_of(HbaRegisters, name): partial(getattr, self, attribute)
            for name, attribute in HBA_READABLE.items()
        }
        for drive in self.drives:
            first = self.base + AHCI_PORT_BASE + (drive.number << AHCI_PORT_SHIFT)
            for name, attribute in READABLE.items():
                readers[first + offset_of(PortRegisters, name)] = partial(getattr, drive, attribute)
        return readers

    def mmio_read(self, address: int, size: int) -> int:
        """Read a register, 0 if it is reserved; narrower accesses return their part of it."""
        read = self.readers.get(address & ~3)
        if read is None:
            return 0
        value = read()
        return value if size == 4 and not address & 3 else value >> 8 * (address & 3) & (1 << 8 * size) - 1

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Write a register; only whole aligned dwords are defined (3, "register access")."""
        offset = address - self.base
        if size != 4 or offset & 3:
            return
        self.saved = None
        if offset >= AHCI_PORT_BASE:
            number, register = divmod(offset - AHCI_PORT_BASE, 1 << AHCI_PORT_SHIFT)
            if number < len(self.drives):
                self.drives[number].write(PORT_NAMES.get(register, ""), value)
        elif offset == offset_of(HbaRegisters, "ghc"):
            self._control(value)
        elif offset == offset_of(HbaRegisters, "is_"):
            self.interrupts &= ~value
        self.update_line()

    def _control(self, value: int) -> None:
        if value & HostControl.HR:
            self.reset()
            return
        self.ghc = int(HostControl.AE) | value & int(HostControl.IE)

    def update_line(self) -> None:
        """Drive the interrupt line: IS gathers ports with an enabled cause (10.7.1)."""
        for drive in self.drives:
            if drive.is_ & drive.ie:
                self.interrupts |= 1 << drive.number
        if self.interrupts and self.ghc & HostControl.IE:
            self.host.raise_line(self.irq)
        else:
            self.host.lower_line(self.irq)

    # Hot plug.

    def plug(self, number: int, medium: Medium) -> None:
        """Connect a drive to a port."""
        self.saved = None
        self.drives[number].plug(medium)
        self.update_line()

    def unplug(self, number: int) -> None:
        """Remove the drive of a port; its commands never complete."""
        self.saved = None
        self.drives[number].unplug()
        self.update_line()

    def on_event(self, token: Any) -> None:
        """A command is due to end: (port, command slot, generation)."""
        number, slot, generation = token
        self.saved = None
        self.drives[number].complete(slot, generation)
        self.update_line()

    def save(self) -> object:
        """Return registers as plain data; media are not part of it."""
        if self.saved is None:
            self.saved = self.ghc, self.interrupts, tuple(drive.save() for drive in self.drives)
        return self.saved

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        self.saved = state
        self.ghc, self.interrupts, drives = state
        for drive, saved in zip(self.drives, drives, strict=True):
            drive.load(saved)
