"""File contents as sectors: which pieces of the disk hold which bytes of a file."""

from typing import NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.errors import FileSystemError
from callgate.server.fat.chain import ClusterChain
from callgate.server.fat.directory import FatEntry
from callgate.server.fat.volume import FatVolume
from callgate.server.pieces import cut, sectors_of


class Extract(NamedTuple):
    """Part of a file: from byte ``position`` (a multiple of 512), ``size`` bytes, in ``entries``."""

    position: int
    size: int
    entries: list[int]


class OpenFile:
    """An open file and as much of its chain as was needed so far."""

    def __init__(self, path: str, entry: FatEntry) -> None:
        self.path = path
        self.entry = entry
        self.chain = ClusterChain(entry.cluster)

    async def locate(self, volume: FatVolume, position: int, wanted: int, start: int) -> Extract:
        """Return the sectors that hold ``wanted`` bytes from ``position``, as far as one reply carries.

        ``start`` is the partition's first LBA, for blocks are the disk's.  The extract is empty at the
        end of the file.  FileSystemError(CORRUPT) if there is nothing at ``position`` but should be.
        """
        first = position // SECTOR_SIZE
        end = min(position + wanted, self.entry.size)
        if end <= position:
            return Extract(first * SECTOR_SIZE, 0, [])
        # No reply reaches further than this; and so neither does the walk along the chain.
        last = min(-(-end // SECTOR_SIZE), first + MESSAGE_ADDRESSES * SECTORS_PER_PAGE)
        await self.chain.extend(volume.table, -(-last // volume.layout.cluster_sectors))
        there = min(last, self.chain.length * volume.layout.cluster_sectors)
        if there <= first:
            raise FileSystemError(ErrorCode.CORRUPT, self.complaint())
        entries, covered = self._cut(volume, first, there, start)
        size = min(covered * SECTOR_SIZE, self.entry.size - first * SECTOR_SIZE)
        return Extract(first * SECTOR_SIZE, size, entries)

    def _cut(self, volume: FatVolume, first: int, end: int, start: int) -> tuple[list[int], int]:
        """Return entries for the file's sectors from ``first`` to ``end``, and how many these are."""
        per_cluster = volume.layout.cluster_sectors
        entries: list[int] = []
        at = first
        while at < end and len(entries) < MESSAGE_ADDRESSES:
            ordinal, within = divmod(at, per_cluster)
            run = self.chain.run_at(ordinal)
            count = min(run.length * per_cluster - within, end - at)
            sector = volume.layout.sector_of(run.cluster) + within
            room = MESSAGE_ADDRESSES - len(entries)
            pieces = cut(start, sector, count, room)
            entries.extend(pieces)
            if len(pieces) == room:
                return entries, at - first + sectors_of(pieces)
            at += count
        return entries, at - first

    def complaint(self) -> str:
        """Say how the chain falls short of the size."""
        clusters = "cluster" if self.chain.length == 1 else "clusters"
        why = self.chain.damage or f"its chain ends after {self.chain.length} {clusters}"
        return f"file {self.path} of {self.entry.size} bytes is damaged: {why}"
