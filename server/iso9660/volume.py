"""A mounted ISO 9660 volume: paths to entries, directories, file contents as sectors.

Needs no server and no machine, only something that reads sectors.
"""

from typing import Final

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError, MountError
from callgate.server.iso9660.descriptors import VolumeDescriptor, read_descriptors
from callgate.server.iso9660.directory import DIRECTORY_LIMIT, Directory, Entry, Names
from callgate.server.iso9660.rock_ridge import SystemUse, sharing
from callgate.server.iso9660.structures import Extent, Record, parse_record
from callgate.server.paths import parse_path
from callgate.server.pieces import Extract, cut, sectors_of

LINKS_LIMIT: Final = 40  # links followed for one path
NAMES_LIMIT: Final = 4096  # names looked up for one path
DIRECTORIES_KEPT: Final = 32
ENTRIES_KEPT: Final = 32768
_ROCK_RIDGE: Final = (b"RRIP_1991A", b"IEEE_P1282", b"IEEE_1282")


class IsoVolume:
    """A volume as it was mounted."""

    def __init__(self, reader: SectorReader, sectors: int, tree: VolumeDescriptor, skip: int | None) -> None:
        self.reader = reader
        self.sectors = sectors  # of the partition
        self.tree = tree
        self.skip = skip  # of Rock Ridge; None if names are those of the tree itself
        self.damage: list[str] = []
        self.udf = False  # whether the disc is a UDF volume as well
        self.root = _directory_entry(tree.root.extent, tree.root.place)
        self._directories: Recent[Directory] = Recent(DIRECTORIES_KEPT, ENTRIES_KEPT)

    @classmethod
    async def mount(cls, reader: SectorReader, sectors: int) -> "IsoVolume":
        """Mount the volume of a partition of ``sectors`` 512-byte sectors; MountError if it cannot be served."""
        descriptors = await read_descriptors(reader, sectors)
        skip = await _rock_ridge(cls(reader, sectors, descriptors.primary, None))
        trees = [descriptors.primary]
        if skip is None and descriptors.joliet is not None:
            trees.insert(0, descriptors.joliet)
        damage = list(descriptors.damage)
        for tree in trees:
            volume = cls(reader, sectors, tree, skip)
            end = tree.blocks * (tree.block_bytes // SECTOR_SIZE)
            short = [f"the volume has {end} sectors of 512 bytes, and there are {sectors}"] if end > sectors else []
            try:
                root = await volume.directory(volume.root)
            except FileSystemError as error:
                why = f"the {'Joliet' if tree.joliet else 'primary'} tree cannot be used: {error.text}"
                damage.append("; ".join([why, *short]))
                continue
            volume.damage = [*damage, *root.damage, *short]
            volume.udf = descriptors.udf
            return volume
        raise MountError(damage[-1])

    @property
    def kind(self) -> str:
        """Where names come from: ``rockridge``, ``joliet`` or ``iso9660``."""
        return "rockridge" if self.skip is not None else "joliet" if self.tree.joliet else "iso9660"

    async def find(self, path: str, *, link: bool = False) -> Entry:
        """Return what ``path`` leads to, links followed to their end; with ``link`` not one that is the last name.

        FileSystemError: NOT_FOUND (also of a link that leads nowhere, or round in circles), NOT_DIRECTORY, CORRUPT,
        NAME_TOO_LONG.
        """
        parsed = parse_path(path)
        waiting = [*parsed.components, *([""] if parsed.directory else [])][::-1]
        stack = [self.root]
        links = 0
        for _ in range(NAMES_LIMIT):
            if not waiting:
                return stack[-1]
            name = waiting.pop()
            if not stack[-1].is_directory:
                raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parsed}: {stack[-1].name} is not a directory")
            if name in {"", "."}:
                continue
            if name == "..":
                del stack[max(1, len(stack) - 1) :]
                continue
            found = await self._look_up(stack, name, str(parsed))
            if found.target is None or (link and not waiting):
                stack.append(found)
                continue
            links += 1
            if links > LINKS_LIMIT:
                raise FileSystemError(ErrorCode.NOT_FOUND, f"{parsed}: more than {LINKS_LIMIT} symbolic links")
            if found.target.startswith("/"):
                del stack[1:]
            waiting += found.target.split("/")[::-1]
        raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{parsed}: more than {NAMES_LIMIT} names, links followed")

    async def _look_up(self, stack: list[Entry], name: str, path: str) -> Entry:
        directory = await self.directory(stack[-1])
        found = directory.find(name)
        if found is None and directory.damage:
            raise FileSystemError(
                ErrorCode.CORRUPT, f"{path}: {name} not found, and its directory is damaged: {directory.damage[0]}"
            )
        if found is None:
            raise FileSystemError(ErrorCode.NOT_FOUND, f"{path}: no such file or directory")
        if found.is_directory and any(found.block == above.block for above in stack):
            raise FileSystemError(
                ErrorCode.CORRUPT, f"{path}: directory loop, block {found.block} is one of its parents"
            )
        return found

    async def directory(self, entry: Entry) -> Directory:
        """Return the contents of a directory; FileSystemError if they cannot be read."""
        known = self._directories.get(entry.block)
        if known is not None:
            return known
        extent = entry.extents[0]
        if not extent.size:  # a relocated directory: its own first record knows
            extent = (await self._itself(extent.block)).extent
        place = extent.block * self.tree.block_bytes
        data = await self._read(place, min(extent.size, DIRECTORY_LIMIT), f"directory in block {extent.block}")
        system_use = None
        if self.skip is not None:
            system_use = SystemUse(self.reader, self.tree.block_bytes, self.sectors, self.skip)
        directory = await Names(joliet=self.tree.joliet, system_use=system_use).directory(data, place)
        if extent.size > DIRECTORY_LIMIT:
            directory.note(f"it has {extent.size} bytes, of which {DIRECTORY_LIMIT} are read")
        return self._directories.keep(entry.block, directory, len(directory.entries))

    async def _itself(self, block: int) -> Record:
        """Return the record that the directory in ``block`` has of itself."""
        place = block * self.tree.block_bytes
        data = await self._read(place, SECTOR_SIZE, f"directory in block {block}")
        notes: list[str] = []
        record = parse_record(data, 0, place, notes.append) if data[0] else None
        if record is None or record.identifier != b"\0" or record.extent.block != block:
            raise FileSystemError(ErrorCode.CORRUPT, f"block {block} does not begin a directory")
        return record

    async def _read(self, place: int, size: int, what: str) -> bytes:
        first, count = place // SECTOR_SIZE, -(-size // SECTOR_SIZE)
        if not count or first + count > self.sectors:
            raise FileSystemError(
                self._why_not_there(first + count),
                f"{what}: sectors {first} to {first + count - 1} of the partition's {self.sectors}",
            )
        return (await self.reader.read(first, count))[:size]

    def _why_not_there(self, end: int) -> ErrorCode:
        """Return why sectors before `end` are not there: IO_ERROR if the volume was cut off, else CORRUPT."""
        stated = self.tree.blocks * self.tree.block_bytes // SECTOR_SIZE
        return ErrorCode.IO_ERROR if end <= stated else ErrorCode.CORRUPT

    def locate(self, entry: Entry, position: int, wanted: int, start: int) -> Extract:
        """Return the sectors that hold ``wanted`` bytes from ``position``, as far as one reply carries.

        ``start`` is the partition's first LBA.  FileSystemError if they are not in the partition: IO_ERROR if it
        was cut off before them, CORRUPT if they are not in the volume either.
        """
        first = position // SECTOR_SIZE
        end = min(position + wanted, entry.size)
        if end <= position:
            return Extract(first * SECTOR_SIZE, 0, [])
        left = min(-(-end // SECTOR_SIZE) - first, MESSAGE_ADDRESSES * SECTORS_PER_PAGE)
        entries: list[int] = []
        skipped, wanting = first, 0
        for extent in entry.extents:
            length = -(-extent.size // SECTOR_SIZE)
            count = min(length - skipped, left)
            if count <= 0:
                skipped = max(0, skipped - length)
                continue
            sector = extent.block * (self.tree.block_bytes // SECTOR_SIZE) + skipped
            there = max(0, min(count, self.sectors - sector))
            entries += cut(start, sector, there, MESSAGE_ADDRESSES - len(entries))
            left, skipped, wanting = left - count, 0, sector + there + 1
            if there < count or not left or len(entries) == MESSAGE_ADDRESSES:
                break
        if not entries:
            raise FileSystemError(
                self._why_not_there(wanting),
                f"file {entry.name} of {entry.size} bytes: byte {position} lies outside the partition's {self.sectors} "
                "sectors",
            )
        size = min(sectors_of(entries) * SECTOR_SIZE, entry.size - first * SECTOR_SIZE)
        return Extract(first * SECTOR_SIZE, size, entries)


def _directory_entry(extent: Extent, place: int) -> Entry:
    return Entry("", place, (extent,), FileAttributes.DIRECTORY | FileAttributes.READ_ONLY)


async def _rock_ridge(volume: IsoVolume) -> int | None:
    """Return how much to skip in system use areas if the primary tree has Rock Ridge, else None."""
    try:
        record = await volume._itself(volume.root.block)
    except FileSystemError:
        return None  # the tree will be found to be unusable, or be used without
    skip = sharing(record.system_use)
    if skip is None:
        return None
    reader = SystemUse(volume.reader, volume.tree.block_bytes, volume.sectors, 0)
    entries = await reader.entries(record.system_use, volume.damage.append)
    named = any(signature == b"ER" and any(each in data for each in _ROCK_RIDGE) for signature, data in entries)
    return skip if named or any(signature in (b"PX", b"RR") for signature, _ in entries) else None
