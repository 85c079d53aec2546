"""A mounted FAT volume: paths to entries, entries to directories and chains, free space.

Needs no server and no machine, only something that reads sectors: `callgate disk inspect` uses it on an
open image file, the server on its partition.
"""

from typing import Final

from callgate.kernel.abi.disks.volumes import FSINFO_LEAD, FSINFO_STRUCTURE, FSINFO_UNKNOWN
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.counted import Counted
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError
from callgate.server.fat.boot_sector import FatLayout
from callgate.server.fat.directory import ROOT, Directory, FatEntry, parse_directory
from callgate.server.fat.find_layout import find_layout
from callgate.server.fat.names import utf16_length, volume_label
from callgate.server.fat.structures import (
    DIRECTORY_LIMIT,
    LONG_NAME_LIMIT,
    FileSystemInfo,
)
from callgate.server.fat.table import FatTable, Usage
from callgate.server.formats.clusters import ClusterChain
from callgate.server.formats.descent import descend, found
from callgate.server.paths import Path

DIRECTORIES_KEPT: Final = 32
ENTRIES_KEPT: Final = 16384


class FatVolume(Counted):
    """A volume as it was mounted; nothing here writes."""

    def __init__(self, reader: SectorReader, layout: FatLayout, sectors: int) -> None:
        self.reader = reader
        self.layout = layout
        self.sectors = sectors  # of the partition, which may be fewer than the volume says it has
        self.table = FatTable(reader, layout)
        self.usage = Usage(0, 0)
        self.dirty = layout.dirty
        self.damage: list[str] = []  # found at mounting
        self._directories: Recent[Directory] = Recent(DIRECTORIES_KEPT, ENTRIES_KEPT)

    @classmethod
    async def mount(cls, reader: SectorReader, partition_sectors: int) -> "FatVolume":
        """Mount the volume of a partition of ``partition_sectors`` 512-byte sectors.

        MountError if it cannot be served; FileSystemError if the disk cannot be read.
        """
        layout, damage = await find_layout(reader, partition_sectors)
        volume = cls(reader, layout, partition_sectors)
        volume.damage += damage
        volume.usage = await volume.table.usage()
        await volume._inspect_marks()
        await volume._compare_fsinfo()
        root = await volume.directory(ROOT)
        volume.dirty = volume.dirty or bool(volume.damage or root.truncated)
        return volume

    async def label(self) -> str:
        """Return the volume's label: that of the root directory.

        Not all tools that rename volumes update BS_VolLab, so blkid, mtools and Windows do not use it either.
        """
        return volume_label((await self.directory(ROOT)).label)

    async def find(self, path: str) -> FatEntry:
        """Return the entry at ``path``: components separated by ``/``, compared as FAT does.

        FileSystemError: NOT_FOUND, NOT_DIRECTORY, NAME_TOO_LONG, CORRUPT.
        """
        return await descend(path, ROOT, {ROOT.cluster, self.layout.root_cluster}, self._step_down)

    async def _step_down(self, parent: FatEntry, name: str, here: Path) -> FatEntry:
        if utf16_length(name) > LONG_NAME_LIMIT:
            raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{here}: a name has at most {LONG_NAME_LIMIT} units")
        if not parent.is_directory:
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{here}: what comes before is not a directory")
        directory = await self.directory(parent)
        return found(directory.find(name), here, directory.truncated)

    async def directory(self, entry: FatEntry) -> Directory:
        """Return the contents of a directory; FileSystemError(CORRUPT) if it has no cluster.

        Directories are kept while there are not too many; `Directory.truncated` describes damage.
        """
        cluster = entry.cluster or self.layout.root_cluster
        if entry is not ROOT and not self.layout.is_cluster(entry.cluster):
            raise FileSystemError(
                ErrorCode.CORRUPT,
                f"directory {entry.name}: its first cluster is {entry.cluster}, and the volume has 2 to "
                f"{self.layout.last_cluster}",
            )
        known = self._directories.get(cluster)
        if known is not None:
            return known
        directory = await (self._read_directory(cluster) if cluster else self._read_fixed_root())
        return self._directories.keep(cluster, directory, len(directory.entries))

    async def _read_fixed_root(self) -> Directory:
        start, count = self.layout.root_start, -(-self.layout.root_bytes // SECTOR_SIZE)
        there = min(count, self.sectors - start)
        truncated = "" if there == count else f"{there} of its {count} sectors lie before the end of the partition"
        data = await self.reader.read(start, there)
        return parse_directory(data[: self.layout.root_bytes], [start * SECTOR_SIZE], truncated, fat32=False)

    async def _read_directory(self, cluster: int) -> Directory:
        size = self.layout.cluster_bytes
        limit = -(-DIRECTORY_LIMIT // size)
        chain = ClusterChain(cluster)
        await chain.extend(self.table, limit)
        truncated = chain.damage
        if not chain.complete or chain.length > limit:
            truncated = f"it is larger than {DIRECTORY_LIMIT} bytes"
        data: list[bytes] = []
        places: list[int] = []
        left = limit
        for run in chain.runs():
            clusters = min(run.length, left)
            left -= clusters
            start = self.layout.sector_of(run.cluster)
            there = max(0, (self.sectors - start) // self.layout.cluster_sectors)
            if there < clusters and (data or there):
                truncated = f"its cluster {run.cluster + there} lies past the end of the partition"
                left, clusters = 0, there
            if not clusters:
                break
            data.append(await self.reader.read(start, clusters * self.layout.cluster_sectors))
            first = start * SECTOR_SIZE
            places.extend(range(first, first + clusters * size, size))
        return parse_directory(b"".join(data), places, truncated, fat32=self.layout.bits == 32)

    async def _inspect_marks(self) -> None:
        self.dirty = self.dirty or await self.table.is_dirty()
        media = await self.table.media_entry() & 0xFF
        if media != self.layout.media:
            self.damage += [f"the first FAT entry names media {media:#04x}, the boot sector {self.layout.media:#04x}"]

    async def _compare_fsinfo(self) -> None:
        """Compare FSInfo's hint with the count; it is never used."""
        if not self.layout.fsinfo:
            return
        info = FileSystemInfo.from_buffer_copy(await self.reader.read(self.layout.fsinfo, 1))
        if (info.FSI_LeadSig, info.FSI_StrucSig) != (FSINFO_LEAD, FSINFO_STRUCTURE):
            self.damage += [f"FSInfo sector {self.layout.fsinfo}: its signatures are wrong; not used"]
        elif info.FSI_Free_Count not in (FSINFO_UNKNOWN, self.usage.free):
            said, free = info.FSI_Free_Count, self.usage.free
            self.damage += [f"FSInfo sector {self.layout.fsinfo} says {said} free clusters; the FAT has {free}"]
