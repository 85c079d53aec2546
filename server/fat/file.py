"""File contents as sectors: which pieces of the disk hold which bytes of a file."""

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.common.counted import Counted
from callgate.server.errors import FileSystemError
from callgate.server.fat.directory import FatEntry
from callgate.server.fat.volume import FatVolume
from callgate.server.formats.clusters import ClusterChain, cut_chain
from callgate.server.pieces import Extract, sectors_of, within


class OpenFile(Counted):
    """An open file and as much of its chain as was needed so far."""

    def __init__(self, path: str, entry: FatEntry) -> None:
        self.path = path
        self.entry = entry
        self.chain = ClusterChain(entry.cluster)

    async def locate(self, volume: FatVolume, position: int, wanted: int, start: int) -> Extract:
        """Return the sectors that hold ``wanted`` bytes from ``position``, as far as one reply carries.

        ``start`` is the partition's first LBA, since blocks are the disk's.  The extract is empty at the
        end of the file.  FileSystemError: CORRUPT if data that should be at ``position`` are missing, IO_ERROR if it
        lies past the end of a partition that is shorter than the volume.
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
        layout = volume.layout
        entries, covered = cut_chain(self.chain, layout.cluster_sectors, layout.sector_of, first, there, start)
        if volume.sectors < layout.sectors:
            entries = within(entries, volume.sectors)
            covered = sectors_of(entries)
        if not entries:
            raise FileSystemError(
                ErrorCode.IO_ERROR,
                f"file {self.path}: byte {position} lies past the end of the partition of {volume.sectors} sectors",
            )
        size = min(covered * SECTOR_SIZE, self.entry.size - first * SECTOR_SIZE)
        return Extract(first * SECTOR_SIZE, size, entries)

    def complaint(self) -> str:
        """Return a text about the chain that is too short for the size."""
        clusters = "cluster" if self.chain.length == 1 else "clusters"
        why = self.chain.damage or f"its chain ends after {self.chain.length} {clusters}"
        return f"file {self.path} of {self.entry.size} bytes is damaged: {why}"
