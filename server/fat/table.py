"""The file allocation table: following links, counting free clusters, reading the volume's flags.

Only a window of it is kept in memory, so a volume may be of any size; the windows used last for chains stay decoded.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.counted import Counted
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError
from callgate.server.fat.boot_sector import FatLayout
from callgate.server.fat.packed import PackedEntries
from callgate.server.fat.structures import FIRST_CLUSTER
from callgate.server.formats.clusters import Link, Step

# Entries in one step of a walk (4 KiB; the largest FAT12 takes 6) and of a scan (128 KiB).  Both are whole
# sectors.
WINDOW_ENTRIES: Final = {12: 4096, 16: 2048, 32: 1024}
SCAN_ENTRIES: Final = {12: 4096, 16: 65536, 32: 32768}
WINDOWS_KEPT: Final = 16

_FREE: Final = 0
_BAD: Final = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFF_FFF7}
# Bits of FAT[1] ("FAT Data Structure"); FAT12 has none.  A bit that is clear reports trouble.
_CLEAN: Final = {12: 0, 16: 0x8000, 32: 0x0800_0000}
_NO_HARD_ERROR: Final = {12: 0, 16: 0x4000, 32: 0x0400_0000}


class Usage(NamedTuple):
    """The counts of a scan of the table, in clusters."""

    free: int
    bad: int


class FatTable(Counted):
    """The active FAT of a volume."""

    def __init__(self, reader: SectorReader, layout: FatLayout) -> None:
        self.reader = reader
        self.layout = layout
        self.fallback_reason = ""  # why another copy had to be read in places
        self._windows: Recent[PackedEntries] = Recent(WINDOWS_KEPT)

    def classify(self, value: int) -> Link:
        """Return the meaning of a FAT entry."""
        if self.layout.is_cluster(value):
            return Link.NEXT
        if value == _FREE:
            return Link.FREE
        bad = _BAD[self.layout.bits]
        if value > bad:
            return Link.END
        return Link.BAD if value == bad else Link.INVALID

    async def step(self, cluster: int) -> Step:
        """Follow the chain from ``cluster`` as far as its clusters are consecutive.

        ``cluster`` must be a cluster number.  The run may be cut at the end of a window; the entry that
        ends it then says NEXT, like any other.
        """
        window = await self._window(cluster)
        length = window.contiguous(cluster)
        end = window.base + window.count
        if cluster + length == end:
            return Step(length, self.classify(end), end)
        value = window.value(cluster + length)
        return Step(length + 1, self.classify(value), value)

    async def usage(self) -> Usage:
        """Count free and bad clusters over the whole table (FSInfo is but a hint)."""
        free = bad = 0
        for base, count in self._stretches():
            clusters = (await self._read_active(base, count)).from_cluster(FIRST_CLUSTER)
            free += clusters.count_equal(_FREE)
            bad += clusters.count_equal(_BAD[self.layout.bits])
        return Usage(free, bad)

    async def is_dirty(self) -> bool:
        """Return whether FAT[1] says that the volume was not unmounted or had I/O errors."""
        bits = self.layout.bits
        entry = (await self._window(0)).value(1)
        wanted = _CLEAN[bits] | _NO_HARD_ERROR[bits]
        return entry & wanted != wanted

    async def media_entry(self) -> int:
        """Return FAT[0], whose low byte repeats BPB_Media."""
        return (await self._window(0)).value(0)

    async def differing_copies(self) -> list[int]:
        """Return the numbers of FAT copies whose cluster entries differ from the active FAT's."""
        differing: set[int] = set()
        if not self.layout.mirrored:
            return []
        for base, count in self._stretches():
            original = (await self._read(0, base, count)).from_cluster(FIRST_CLUSTER)
            for copy in range(1, self.layout.fats):
                if (await self._read(copy, base, count)).from_cluster(FIRST_CLUSTER).number != original.number:
                    differing.add(copy)
        return sorted(differing)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        step = SCAN_ENTRIES[self.layout.bits]
        end = self.layout.last_cluster + 1
        for base in range(0, end, step):
            yield base, min(step, end - base)

    async def _window(self, cluster: int) -> PackedEntries:
        size = WINDOW_ENTRIES[self.layout.bits]
        base = cluster // size * size
        window = self._windows.get(base)
        if window is None:
            window = await self._read_active(base, min(size, self.layout.last_cluster + 1 - base))
            self._windows.keep(base, window)
        return window

    async def _read_active(self, base: int, count: int) -> PackedEntries:
        """Read from the active FAT, or from a mirror where the disk cannot read the first."""
        try:
            return await self._read(self.layout.active_fat, base, count)
        except FileSystemError as error:
            if error.code is not ErrorCode.IO_ERROR or not self.layout.mirrored or self.layout.fats == 1:
                raise
            self.fallback_reason = error.text
        return await self._read(1, base, count)

    async def _read(self, copy: int, base: int, count: int) -> PackedEntries:
        bits = self.layout.bits
        start = self.layout.fat_start + copy * self.layout.fat_sectors + base * bits // 8 // SECTOR_SIZE
        data = await self.reader.read(start, -(-count * bits // (8 * SECTOR_SIZE)))
        return PackedEntries(data, bits, base, count)
