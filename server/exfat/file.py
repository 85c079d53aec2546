"""File contents: which pieces of the disk hold which bytes, and the one sector that only the server can make.

Bytes after ValidDataLength (7.6.5) have never been written: whatever the disk holds there, they read as zeros.
Whole sectors of them are holes; the sector in which the valid bytes end is put together in the server's memory.
"""

from typing import Final

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.errors import FileSystemError
from callgate.server.exfat.directory import ExfatEntry
from callgate.server.exfat.volume import ExfatVolume
from callgate.server.formats.clusters import cut_chain
from callgate.server.pieces import Extract, cut_hole, sectors_of

REACH: Final = MESSAGE_ADDRESSES * SECTORS_PER_PAGE  # no reply covers more sectors


class OpenFile:
    """An open file and as much of its chain as was needed so far."""

    def __init__(self, path: str, entry: ExfatEntry, volume: ExfatVolume) -> None:
        self.path = path
        self.entry = entry
        self.chain = volume.chain(entry)
        whole = entry.valid >= entry.size  # nearly always
        self.written = -(-entry.valid // SECTOR_SIZE) if whole else entry.valid // SECTOR_SIZE
        self.mixed = -1 if whole or entry.valid % SECTOR_SIZE == 0 else self.written

    def is_mixed(self, position: int) -> bool:
        """Whether the valid bytes of the file end within the sector of a position, and zeros follow."""
        return position // SECTOR_SIZE == self.mixed

    async def locate(self, volume: ExfatVolume, position: int, wanted: int, start: int) -> Extract:
        """Return the sectors that hold ``wanted`` bytes from ``position``, as far as one reply carries.

        ``start`` is the partition's first LBA, since blocks are the disk's.  The extract is empty at the end of the
        file.  FileSystemError(CORRUPT) if data that should be at ``position`` are missing.  Not for mixed sectors.
        """
        first = position // SECTOR_SIZE
        size = self.entry.size
        if position >= size or not wanted:
            return Extract(first * SECTOR_SIZE, 0, [])
        last = min(-(-min(position + wanted, size) // SECTOR_SIZE), first + REACH)
        if first >= self.written:
            entries = cut_hole((start + first) % SECTORS_PER_PAGE, last - first)
            covered = sectors_of(entries)
        else:
            entries, covered = await self._cut(volume, first, min(last, self.written), start)
        return Extract(first * SECTOR_SIZE, min(covered * SECTOR_SIZE, size - first * SECTOR_SIZE), entries)

    async def mixed_page(self, volume: ExfatVolume, position: int) -> tuple[int, bytes]:
        """Return where the mixed sector of a position begins, and a page that begins with it; zeros follow."""
        first = position // SECTOR_SIZE
        sector = await self._sector(volume, first)
        data = (await volume.reader.read(sector, 1))[: self.entry.valid % SECTOR_SIZE]
        return first * SECTOR_SIZE, data.ljust(PAGE_SIZE, b"\0")

    async def _cut(self, volume: ExfatVolume, first: int, last: int, start: int) -> tuple[list[int], int]:
        layout = volume.layout
        await self.chain.extend(volume.table, -(-last // layout.cluster_sectors))
        there = min(last, self.chain.length * layout.cluster_sectors)
        if there <= first:
            raise self._damaged()
        return cut_chain(self.chain, layout.cluster_sectors, layout.sector_of, first, there, start)

    async def _sector(self, volume: ExfatVolume, index: int) -> int:
        """Return the sector of the partition that holds a sector of the file."""
        ordinal, within = divmod(index, volume.layout.cluster_sectors)
        await self.chain.extend(volume.table, ordinal + 1)
        if ordinal >= self.chain.length:
            raise self._damaged()
        return volume.layout.sector_of(self.chain.run_at(ordinal).cluster) + within

    def _damaged(self) -> FileSystemError:
        """Return a text about the chain that is too short for the size."""
        clusters = "cluster" if self.chain.length == 1 else "clusters"
        why = self.chain.damage or f"its chain ends after {self.chain.length} {clusters}"
        return FileSystemError(ErrorCode.CORRUPT, f"file {self.path} of {self.entry.size} bytes is damaged: {why}")
