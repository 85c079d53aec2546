"""A mounted exFAT volume: paths to entries, entries to directories and sectors, free space.

Needs no server and no machine, only something that reads sectors.
"""

from typing import Final

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError, MountError
from callgate.server.exfat.boot_region import ExfatLayout, read_boot_region
from callgate.server.exfat.directory import Directory, ExfatEntry, Table, parse_directory
from callgate.server.exfat.structures import DIRECTORY_LIMIT, NAME_LIMIT, UP_CASE_LIMIT
from callgate.server.exfat.table import Consecutive, ExfatTable
from callgate.server.exfat.upcase import UpCase, mandatory, parse_up_case, table_checksum, units_of
from callgate.server.formats.clusters import ClusterChain
from callgate.server.formats.descent import descend, found
from callgate.server.paths import Path

DIRECTORIES_KEPT: Final = 32
ENTRIES_KEPT: Final = 16384


class ExfatVolume:
    """A volume as it was mounted; nothing here writes."""

    def __init__(self, reader: SectorReader, layout: ExfatLayout) -> None:
        self.reader = reader
        self.layout = layout
        self.table = ExfatTable(reader, layout)
        self.up_case: UpCase = mandatory()
        self.free: int | None = None  # clusters; None if the bitmap cannot be used
        self.label = ""
        self.damage: list[str] = []  # found at mounting
        self.root = ExfatEntry("", (), int(FileAttributes.DIRECTORY), layout.root_cluster, False, 0, 0, 0, 0)
        self._directories: Recent[Directory] = Recent(DIRECTORIES_KEPT, ENTRIES_KEPT)

    @classmethod
    async def mount(cls, reader: SectorReader, partition_sectors: int) -> "ExfatVolume":
        """Mount the volume of a partition of ``partition_sectors`` 512-byte sectors.

        MountError if it cannot be served; FileSystemError if the disk cannot be read.
        """
        layout, damage = await read_boot_region(reader, partition_sectors)
        volume = cls(reader, layout)
        volume.damage.extend(damage)
        if layout.sectors > partition_sectors:
            volume.damage.append(
                f"the volume has {layout.sectors} sectors of 512 bytes, and the partition {partition_sectors}"
            )
        root = await volume.directory(volume.root)
        volume.label = root.label
        await volume._read_up_case(root)
        await volume._count_free(root)
        root = await volume.directory(volume.root)
        volume.damage.extend(f"the root directory: {text}" for text in (root.truncated, *root.damage) if text)
        return volume

    @property
    def dirty(self) -> bool:
        """Whether the volume was not unmounted, or something is wrong with it."""
        return self.layout.dirty or bool(self.damage)

    async def find(self, path: str) -> ExfatEntry:
        """Return the entry at ``path``; names are compared by the volume's own up-case table.

        FileSystemError: NOT_FOUND, NOT_DIRECTORY, NAME_TOO_LONG, CORRUPT.
        """
        return await descend(path, self.root, {self.root.cluster}, self._step_down)

    async def _step_down(self, parent: ExfatEntry, name: str, here: Path) -> ExfatEntry:
        if not parent.is_directory:
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{here}: what comes before is not a directory")
        if len(units_of(name)) > NAME_LIMIT and "%" not in name:
            raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{here}: a name has at most {NAME_LIMIT} characters")
        directory = await self.directory(parent)
        return found(directory.find(self.up_case.fold(name)), here, directory.truncated)

    def chain(self, entry: ExfatEntry) -> ClusterChain:
        """Return the clusters of a file, none of them walked to yet."""
        clusters = -(-entry.size // self.layout.cluster_bytes)
        if entry.consecutive:
            return Consecutive(self.layout, entry.cluster, clusters)
        return ClusterChain(entry.cluster if clusters or entry is self.root else 0)

    async def directory(self, entry: ExfatEntry) -> Directory:
        """Return the contents of a directory; they are kept while there are not too many."""
        known = self._directories.get(entry.identifier)
        if known is not None:
            return known
        directory = await self._read_directory(entry)
        return self._directories.keep(entry.identifier, directory, len(directory.entries))

    async def _read_directory(self, entry: ExfatEntry) -> Directory:
        """Read a directory's clusters; of the root, whose size is not recorded, as many as its chain has."""
        size = self.layout.cluster_bytes
        wanted = -(-entry.size // size) if entry is not self.root else -(-DIRECTORY_LIMIT // size)
        limit = min(wanted, -(-DIRECTORY_LIMIT // size))
        chain = self.chain(entry)
        await chain.extend(self.table, limit)
        truncated = chain.damage
        if not truncated and (wanted > limit or (entry is self.root and not chain.complete)):
            truncated = f"it is larger than {DIRECTORY_LIMIT} bytes"
        elif not truncated and entry is not self.root and chain.length < wanted:
            truncated = f"it has {chain.length} clusters, and {entry.size} bytes take {wanted}"
        data, places = await self._read_clusters(chain, limit)
        return parse_directory(data, places, self.up_case, truncated)

    async def _read_clusters(self, chain: ClusterChain, limit: int) -> tuple[bytes, list[int]]:
        """Return at most ``limit`` known clusters of a chain, and the byte offset of each in the volume."""
        size = self.layout.cluster_bytes
        data, left = [], limit
        places: list[int] = []
        for run in chain.runs():
            clusters = min(run.length, left)
            left -= clusters
            start = self.layout.sector_of(run.cluster)
            data.append(await self.reader.read(start, clusters * self.layout.cluster_sectors))
            places.extend(range(start * SECTOR_SIZE, start * SECTOR_SIZE + clusters * size, size))
        return b"".join(data), places

    async def _read_table(self, table: Table, limit: int, what: str) -> bytes:
        """Return the allocation bitmap or the up-case table; MountError names the reason if it cannot be read."""
        if table.size > limit:
            raise MountError(f"{what} has {table.size} bytes, and needs at most {limit}")
        chain = ClusterChain(table.cluster)
        clusters = -(-table.size // self.layout.cluster_bytes)
        await chain.extend(self.table, clusters)
        if chain.length < clusters:
            raise MountError(f"{what}: {chain.damage or f'its chain ends after {chain.length} clusters'}")
        return (await self._read_clusters(chain, clusters))[0][: table.size]

    async def _read_up_case(self, root: Directory) -> None:
        """Read the up-case table, by which names are compared; without it only letters of ASCII are known."""
        try:
            if not root.up_case_tables:
                raise MountError("the root directory names no up-case table")
            table = root.up_case_tables[0]
            data = await self._read_table(table, UP_CASE_LIMIT, "the up-case table")
            if table_checksum(data) != table.checksum:
                raise MountError(
                    f"the up-case table has the checksum {table_checksum(data):#010x}, and should have "
                    f"{table.checksum:#010x}"
                )
            self.up_case = parse_up_case(data)
        except MountError as error:
            self.damage.append(f"{error.text}; only letters of ASCII are compared in any case")
            return
        except ValueError as error:
            self.damage.append(f"the up-case table: {error}; only letters of ASCII are compared in any case")
            return
        self._directories.clear()  # their names were put into upper case without it

    async def _count_free(self, root: Directory) -> None:
        """Count the clear bits of the allocation bitmap (7.1): the free clusters."""
        clusters = self.layout.clusters
        try:
            if not root.bitmaps:
                raise MountError("the root directory names no allocation bitmap")
            size = -(-clusters // 8)
            table = root.bitmaps[0]  # TexFAT's second one is of use only while a transaction is open
            if table.size < size:
                raise MountError(f"the allocation bitmap has {table.size} bytes, and {clusters} clusters take {size}")
            data = await self._read_table(table._replace(size=size), size, "the allocation bitmap")
        except MountError as error:
            self.damage.append(f"{error.text}; free space is not known")
            return
        used = int.from_bytes(data, "little") & (1 << clusters) - 1
        self.free = clusters - used.bit_count()
