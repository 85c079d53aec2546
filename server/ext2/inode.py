"""Inodes: the kind of a file, its size, and its block map in i_block."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.features import Incompatible
from callgate.server.ext2.groups import Groups
from callgate.server.ext2.metadata import MetadataBlocks
from callgate.server.ext2.structures import INODE_SIZE, InodeFlags, InodeRecord, Kind
from callgate.server.ext2.superblock import Layout

_READ_AHEAD: Final = 16  # blocks of an inode table read together
_NANOSECOND_BITS: Final = 2  # i_mtime_extra: the low two bits extend the seconds
_WRITE_BITS: Final = 0o222
_EXECUTE_BITS: Final = 0o111
_FULL: Final = 160  # bytes of InodeRecord and more


class Inode(NamedTuple):
    """An inode in use."""

    number: int
    kind: Kind
    permissions: int
    size: int  # bytes
    modified: int  # seconds since 1970, negative before
    flags: int
    pointers: bytes  # i_block, 60 bytes

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.kind is Kind.DIRECTORY

    @property
    def attributes(self) -> FileAttributes:
        """Return the attributes that clients see: READ_ONLY where no user may write."""
        found = FileAttributes(0)
        if self.kind is Kind.DIRECTORY:
            found |= FileAttributes.DIRECTORY
        elif self.kind is Kind.SYMLINK:
            return FileAttributes.SYMLINK  # permissions of links mean nothing
        elif self.kind is not Kind.REGULAR:
            found |= FileAttributes.SYSTEM
        elif self.permissions & _EXECUTE_BITS:
            found |= FileAttributes.EXECUTABLE
        return found if self.permissions & _WRITE_BITS else found | FileAttributes.READ_ONLY

    @property
    def has_extents(self) -> bool:
        """Whether i_block is the root of an extent tree."""
        return bool(self.flags & InodeFlags.EXTENTS)


class Inodes:
    """All inodes of a volume."""

    def __init__(self, blocks: MetadataBlocks, groups: Groups) -> None:
        self.blocks = blocks
        self.groups = groups

    async def read(self, number: int) -> Inode:
        """Return an inode in use; CORRUPT if there is none of that number, or it is free or absurd."""
        block, offset = await self._locate(number)
        data = await self.blocks.read(block, f"inode {number}")
        layout = self.blocks.layout
        return parse_inode(data[offset : offset + layout.inode_bytes], number, layout)

    async def read_many(self, numbers: Iterable[int]) -> dict[int, Inode]:
        """Return those of these inodes that `read` would, in as few reads of the disk as possible."""
        places: dict[int, list[tuple[int, int]]] = {}
        for number in sorted(set(numbers)):
            try:
                block, offset = await self._locate(number)
            except FileSystemError:
                continue
            places.setdefault(block, []).append((number, offset))
        found: dict[int, Inode] = {}
        for first, count in _runs(sorted(places)):
            data = await self._read_tables(first, count)
            for index, part in enumerate(data):
                found |= self._parse_all(part, places[first + index])
        return found

    async def _read_tables(self, first: int, count: int) -> list[bytes]:
        """Return consecutive blocks of inode tables; b"" for those that cannot be read."""
        size = self.blocks.layout.block_bytes
        try:
            data = await self.blocks.read_run(first, count, "inode table")
        except FileSystemError:
            if count == 1:
                return [b""]
            return [(await self._read_tables(block, 1))[0] for block in range(first, first + count)]
        return [data[offset : offset + size] for offset in range(0, len(data), size)]

    def _parse_all(self, block: bytes, places: list[tuple[int, int]]) -> dict[int, Inode]:
        layout = self.blocks.layout
        found = {}
        for number, offset in places if block else ():
            with suppress(FileSystemError):
                found[number] = parse_inode(block[offset : offset + layout.inode_bytes], number, layout)
        return found

    async def _locate(self, number: int) -> tuple[int, int]:
        """Return the block that holds an inode, and its offset there."""
        layout = self.blocks.layout
        if not 0 < number <= layout.inodes:
            raise FileSystemError(ErrorCode.CORRUPT, f"inode {number}: the volume has 1 to {layout.inodes}")
        group, index = divmod(number - 1, layout.group_inodes)
        table = (await self.groups.group(group)).inode_table
        block, offset = divmod(index * layout.inode_bytes, layout.block_bytes)
        return table + block, offset


def _runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of consecutive numbers in a sorted list, _READ_AHEAD of them at most."""
    start = 0
    for index in range(1, len(blocks) + 1):
        if index == len(blocks) or blocks[index] != blocks[index - 1] + 1 or index - start == _READ_AHEAD:
            yield blocks[start], index - start
            start = index


def parse_inode(raw: bytes, number: int, layout: Layout) -> Inode:
    """Return the inode that ``raw``, the s_inode_size bytes of a table entry, describes."""
    record = InodeRecord.from_buffer_copy(raw.ljust(_FULL, b"\0"))
    if record.i_links_count == 0 or record.i_mode == 0:
        raise FileSystemError(ErrorCode.CORRUPT, f"inode {number} is free and has a name")
    try:
        kind = Kind(record.i_mode >> 12)
    except ValueError:
        raise FileSystemError(ErrorCode.CORRUPT, f"inode {number}: i_mode {record.i_mode:#o} is of no type") from None
    return Inode(
        number,
        kind,
        record.i_mode & 0o7777,
        _size(record, kind, layout),
        _modified(record, layout),
        record.i_flags,
        bytes(record.i_block),
    )


def _size(record: InodeRecord, kind: Kind, layout: Layout) -> int:
    """Return the size; of directories the high half is i_dir_acl unless they may be large."""
    large = kind is Kind.REGULAR or (
        kind is Kind.DIRECTORY and bool(layout.features.incompatible & Incompatible.LARGEDIR)
    )
    size: int = record.i_size | (record.i_size_high << 32 if large else 0)
    return size


def _modified(record: InodeRecord, layout: Layout) -> int:
    """Return i_mtime, a signed number; i_mtime_extra adds two bits above (ext4, "Inode Timestamps")."""
    seconds: int = record.i_mtime - (record.i_mtime >> 31 << 32)
    end = InodeRecord.i_mtime_extra.offset + 4
    if layout.inode_bytes >= end and INODE_SIZE + record.i_extra_isize >= end:
        seconds += (record.i_mtime_extra & (1 << _NANOSECOND_BITS) - 1) << 32
    return seconds
