"""The structures that an AHCI port reads: command headers, FISes, and the regions of a PRDT (AHCI 1.3.1, 4.2).

All memory is checked by the bus: DmaError means "host bus error" to the port.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import NamedTuple

from callgate.disk.drives.ata import Command
from callgate.kernel.abi.disks.ahci import CommandHeader, FisType, PrdtEntry, RegisterFis
from callgate.kernel.abi.layout import size_of
from callgate.kernel.common.record import record
from callgate.kernel.machine.memory.bus import DmaError, Host

CFL_MASK = 0x1F
FIS_DWORDS = 5
CLEAR_BUSY = 1 << 10
PRDTL_SHIFT = 16
PRDT_OFFSET = 0x80
DBC_MASK = 0x3F_FFFF
DBC_INTERRUPT = 1 << 31
HEADER_SIZE = 32
TABLE_ALIGN = 0x7F
COMMAND_BIT = 0x80
SRST = 0x04


class FrameError(Exception):
    """A command FIS that no drive accepts: the interface reports a handshake error."""


class Fetched(NamedTuple):
    """A command header and its FIS, as they were when the port fetched them.  Plain data for snapshots."""

    slot: int
    table: int
    prdt_length: int
    clear_busy: bool
    fis: bytes

    @property
    def is_command(self) -> bool:
        """Whether the FIS carries a command, not device control."""
        return bool(self.fis[1] & COMMAND_BIT)

    @property
    def soft_reset(self) -> bool:
        """Whether device control asks for a software reset."""
        return bool(self.fis[15] & SRST)

    @property
    def command(self) -> Command:
        """The command in the FIS (Serial ATA 3.1, 10.5.5)."""
        fis = RegisterFis.from_buffer_copy(self.fis)
        low = fis.lba0 | fis.lba1 << 8 | fis.lba2 << 16
        high = fis.lba3 | fis.lba4 << 8 | fis.lba5 << 16
        features = fis.features | fis.features_high << 8
        return Command(fis.command, features, fis.count | fis.count_high << 8, low | high << 24, fis.device)


@record(eq=True)
class Regions:
    """Memory for a transfer, in the order of the PRDT; `missing` bytes found no place in it."""

    views: list[memoryview] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0
    interrupt: bool = False

    @property
    def length(self) -> int:
        """Bytes of memory."""
        return sum(length for _, length in self.places)


def fetch(host: Host, command_list: int, slot: int) -> Fetched:
    """Read a command header and the FIS it points to; DmaError, FrameError."""
    header = CommandHeader.from_buffer_copy(host.memory(command_list + HEADER_SIZE * slot, HEADER_SIZE))
    table = header.ctba & ~TABLE_ALIGN
    fis = bytes(host.memory(table, size_of(RegisterFis)))
    if header.flags & CFL_MASK != FIS_DWORDS or fis[0] != FisType.REGISTER_H2D:
        raise FrameError(f"slot {slot}: {header.flags & CFL_MASK} dwords, type {fis[0]:#x}")
    return Fetched(slot, table, header.flags >> PRDTL_SHIFT, bool(header.flags & CLEAR_BUSY), fis)


def regions(host: Host, fetched: Fetched, length: int) -> Regions:
    """Return the memory that a PRDT names for `length` bytes (4.2.3.3); DmaError.

    Addresses and byte counts are even; an odd one is a descriptor that the bus master cannot follow.
    """
    found = Regions(missing=length)
    size = size_of(PrdtEntry)
    prdt = host.memory(fetched.table + PRDT_OFFSET, fetched.prdt_length * size)
    for index in range(fetched.prdt_length):
        if not found.missing:
            break
        entry = PrdtEntry.from_buffer_copy(prdt, index * size)
        count = (entry.dbc & DBC_MASK) + 1
        if entry.dba & 1 or count & 1:
            raise DmaError(entry.dba, count)
        count = min(count, found.missing)
        found.views.append(host.memory(entry.dba, count))
        found.places.append((entry.dba, count))
        found.missing -= count
        found.interrupt |= bool(entry.dbc & DBC_INTERRUPT)
    return found


def scatter(data: bytes, views: Sequence[memoryview]) -> None:
    """Copy data into views, in order."""
    offset = 0
    for view in views:
        view[:] = data[offset : offset + len(view)]
        offset += len(view)
