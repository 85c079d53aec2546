"""The invariant of DMA, for `Kernel.check`: bus masters reach held frames of the disk cache and nothing else.

Commands in flight are read from the controller's registers and tables (AHCI 1.3.1, 3.3 and 4.2), not from the driver's
records; what has been transferred is watched from the first check on (`DeviceHost.dma_done`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi.disks.ahci import (
    AHCI_PORT_BASE,
    AHCI_PORT_SHIFT,
    AHCI_PORTS,
    AHCI_PRDT_LIMIT,
    AHCI_SLOTS,
    COMMAND_PRDTL_SHIFT,
    CommandHeader,
    CommandTable,
    HbaRegisters,
    PortRegisters,
    PrdtEntry,
)
from callgate.kernel.abi.layout import Layout, offset_of, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_MMIO, PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.programs.kernel_labels import POLLED_DATA

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.watching.check_facts import Facts


def transfers_in_flight_have_cache_frames(facts: Facts) -> Iterator[str]:
    """Every frame that a command in flight may write to is that of a cache block that has not arrived yet.

    But for the driver's own sector, `polled_data`.
    """
    blocks = facts.kernel.cache.state.blocks.values()
    waiting = {block.frame for block in blocks if not block.valid and block.failed is None}
    for port, slot, (region, size) in _regions(facts):
        if region == polled_data(facts.kernel):
            continue
        for frame in frames_of(region, size):
            if frame not in waiting or not facts.state.high.holds_all(range(frame, frame + PAGE_SIZE, PAGE_SIZE)):
                where = f"port {port}, slot {slot}"
                yield f"{where}: the disk may write to frame {frame:#x}, which no cache block waits for"


def transfers_have_gone_to_cache_frames(facts: Facts) -> Iterator[str]:
    """Every transfer up to now went to a held frame of the cache, or to the driver's own memory at start-up."""
    yield from facts.transfers_elsewhere


class DmaWatch:
    """Checks each transfer as a device books it; a device may not write where no cache block waits for data."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.found: list[str] = []
        kernel.machine.dma_watch = self.look

    def look(self, physical: int, length: int) -> None:
        """Remember a transfer to memory that the driver may not name."""
        kernel = self.kernel
        if physical == polled_data(kernel) and length <= SECTOR_SIZE:
            return
        if not kernel.state.high.holds_all(frames_of(physical, length)):
            self.found.append(f"{length} bytes of DMA went to {physical:#x}, which is not a held frame of the cache")


def polled_data(kernel: Kernel) -> int:
    """Return the sector in the image into which the driver reads IDENTIFY DEVICE data and the error log."""
    return kernel.guest.address(POLLED_DATA) - KERNEL_BASE


def frames_of(physical: int, length: int) -> range:
    """Return the frames that bytes of physical memory lie in."""
    return range(physical & -PAGE_SIZE, physical + length, PAGE_SIZE)


def _regions(facts: Facts) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield (port, command slot, (address, bytes)) of each PRDT entry of each command that is issued."""
    linear = facts.kernel.guest.kernel_words["ahci_base"]
    if not linear:
        return
    base = facts.stack_pages[linear] if linear == KERNEL_MMIO else 0
    ports = _register(facts, base, HbaRegisters, "pi")
    for port in range(AHCI_PORTS):
        if ports >> port & 1:
            at = base + AHCI_PORT_BASE + (port << AHCI_PORT_SHIFT)
            issued = _register(facts, at, PortRegisters, "ci") | _register(facts, at, PortRegisters, "sact")
            headers = _register(facts, at, PortRegisters, "clb")
            for slot in range(AHCI_SLOTS):
                if issued >> slot & 1:
                    yield from (
                        (port, slot, region) for region in _prdt(facts, headers + slot * size_of(CommandHeader))
                    )


def _prdt(facts: Facts, at: int) -> Iterator[tuple[int, int]]:
    ram = facts.kernel.machine.ram
    header = CommandHeader.from_buffer_copy(ram.read(at, size_of(CommandHeader)))
    first = header.ctba + offset_of(CommandTable, "prdt")
    for index in range(header.flags >> COMMAND_PRDTL_SHIFT):
        entry = PrdtEntry.from_buffer_copy(ram.read(first + index * size_of(PrdtEntry), size_of(PrdtEntry)))
        yield entry.dba, (entry.dbc & AHCI_PRDT_LIMIT - 1) + 1


def _register(facts: Facts, base: int, layout: type[Layout], name: str) -> int:
    """Read a register as a load by the CPU would; those read here have no side effects (AHCI 1.3.1, 3.3)."""
    return facts.kernel.machine.memory_bus.read(base + offset_of(layout, name), 4)
