"""Sector lists: the pages in which machine code sorts a reply's sectors and counts them down as they arrive.

Policy writes a list, has `sort_sectors` sort it, and links it into the chain that `lists_arrived` walks at each
completion (asm/kernel/disk/sectors.asm, asm/kernel/disk/arrivals.asm; `SectorList` in kernel/abi/disks/sectors.py is
the layout).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from callgate.kernel.abi.disks.sectors import (
    SECTOR_ARRIVED_BIT,
    SECTOR_COUNT_SHIFT,
    SECTOR_LINK_MASK,
    SECTOR_LINK_SHIFT,
    SECTOR_PART_SHIFT,
    SectorList,
)
from callgate.kernel.abi.file import SpanRecord
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTORS_PER_PAGE
from callgate.kernel.common.record import record
from callgate.kernel.common.table import Table
from callgate.kernel.core.control_block import word
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Process, Tasks
from callgate.kernel.storage.disks import place_of
from callgate.kernel.tasks.shares import Shares

if TYPE_CHECKING:
    from callgate.kernel.core.records import SectorPiece

ARRIVED = 1 << SECTOR_LINK_SHIFT + SECTOR_ARRIVED_BIT
ENTRIES = SectorList.entries.offset
HEAD = struct.Struct("<IHHII")
REMAINING = word(SpanRecord, "remaining")
NEXT_ENTRY = SECTORS_PER_PAGE | 1 << SECTOR_LINK_SHIFT  # from the entry of a whole block to that of the next one


@record
class SectorListsState:
    """Records: the lists that wait for the disk."""

    chain: Table[int, None] = field(default_factory=Table)  # their frames


class SectorLists:
    """The pages of lists, each in a frame of low memory."""

    def __init__(self, state: SectorListsState, guest: Guest, tasks: Tasks, shares: Shares) -> None:
        self.state = state
        self.guest = guest
        self.tasks = tasks
        self.shares = shares
        self.low = shares.memory.low

    def reserve(self, process: Process) -> int:
        """Book a list to the family of the process that asks for a span, and return it; NO_MEMORY."""
        self.shares.check_list(process)
        lists = self.tasks.lists
        lists[process.family] = lists.get(process.family, 0) + 1
        return process.family

    def unreserve(self, family: int) -> None:
        """A span has arrived or failed: its list is no longer booked."""
        lists = self.tasks.lists
        lists[family] -= 1
        if not lists[family]:
            del lists[family]

    def write(self, disk: int, record: int, pieces: list[SectorPiece]) -> tuple[int, int]:
        """Return the frame of a new list of these sectors, and how many entries it has: one for each block.

        `record` is the linear address of the SpanRecord that counts them down, from their number.
        """
        frame = self.shares.frame_for_files()
        entries = array("Q")
        for lba, _, sectors in pieces:
            if lba is not None:
                entries.extend(entries_of(lba, sectors, len(entries)))
        parts = {at >> 32 for lba, _, sectors in pieces if lba is not None for at in (lba, lba + sectors - 1)}
        view = self.guest.ram.view(frame, PAGE_SIZE)
        view[:] = bytes(PAGE_SIZE)
        HEAD.pack_into(view, 0, 0, disk, int(len(parts) > 1), len(entries), record)
        self.guest.words[(record - KERNEL_BASE) // 4 + REMAINING] = len(entries)
        view[ENTRIES : ENTRIES + len(entries) * entries.itemsize] = memoryview(entries).cast("B")
        return frame, len(entries)

    def read(self, frame: int, count: int) -> tuple[list[int], list[int]]:
        """Return the blocks in the order of the entries now, and the place there of each entry as it was written."""
        words = struct.unpack_from(f"<{count}Q", self.guest.ram.view(frame + ENTRIES, 8 * count))
        places = [0] * count
        for place, entry in enumerate(words):
            places[entry >> SECTOR_LINK_SHIFT & SECTOR_LINK_MASK] = place
        return [sector_of(entry) // SECTORS_PER_PAGE for entry in words], places

    def mark_arrived(self, frame: int, there: list[int]) -> bool:
        """Count these entries (by index) down: their blocks are in the cache.  True if nothing is missing."""
        page = SectorList.from_buffer(self.guest.ram.view(frame, PAGE_SIZE))
        for index in there:
            page.entries[index] |= ARRIVED
        at = (page.record - KERNEL_BASE) // 4 + REMAINING
        self.guest.words[at] = self.guest.words[at] - len(there)
        return not self.guest.words[at]

    def linked(self, frame: int) -> bool:
        """Whether a list waits for the disk."""
        return frame in self.state.chain

    def mark_unread(self, frame: int, keys: set[tuple[int, int]]) -> bool:
        """Count down the entries of these blocks, which no disk request will read.  True if nothing is missing."""
        page = SectorList.from_buffer(self.guest.ram.view(frame, PAGE_SIZE))
        blocks = {block for disk, block in keys if place_of(disk) == page.disk}
        waiting = [index for index, word in enumerate(page.entries[: page.count]) if not word & ARRIVED]
        return self.mark_arrived(
            frame, [index for index in waiting if sector_of(page.entries[index]) // SECTORS_PER_PAGE in blocks]
        )

    def link(self, frame: int) -> None:
        """Put a list into the chain that the disk driver walks."""
        self.state.chain[frame] = None
        self._write_chain()

    def release(self, frame: int) -> None:
        """Remove a list from the chain, if it is in it, and free its page."""
        if frame in self.state.chain:
            del self.state.chain[frame]
            self._write_chain()
        self.low.release(frame)

    def _write_chain(self) -> None:
        """Write the chain anew; completions do not run while policy does."""
        following = 0
        for frame in reversed(self.state.chain):
            self.guest.words[frame >> 2] = following
            following = KERNEL_BASE + frame
        self.guest.kernel_words["sector_lists"] = following


def entries_of(lba: int, sectors: int, index: int) -> Sequence[int]:
    """Return the entries of a piece, numbered from `index`."""
    whole = min(sectors, SECTORS_PER_PAGE)
    base = index << SECTOR_LINK_SHIFT | whole - 1 << SECTOR_COUNT_SHIFT
    low, count = lba & 0xFFFF_FFFF, -(-sectors // SECTORS_PER_PAGE)
    if low + sectors <= 1 << 32:
        first = base | low | lba >> 32 << SECTOR_PART_SHIFT
        return range(first, first + count * NEXT_ENTRY, NEXT_ENTRY)
    firsts = range(lba, lba + count * SECTORS_PER_PAGE, SECTORS_PER_PAGE)
    step = 1 << SECTOR_LINK_SHIFT
    return [
        base + at * step | first & 0xFFFF_FFFF | first >> 32 << SECTOR_PART_SHIFT for at, first in enumerate(firsts)
    ]


def sector_of(entry: int) -> int:
    """Return the sector of an entry."""
    return entry & 0xFFFF_FFFF | entry >> SECTOR_PART_SHIFT << 32
