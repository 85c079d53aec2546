"""A mounted volume: paths to inodes, inodes to directories and links, free space.

Needs no server and no machine, only something that reads sectors.
"""

from typing import Final

from callgate.kernel.abi.disks.volumes import EXT_SUPERBLOCK_OFFSET
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError, MountError
from callgate.server.ext2.blocks.mapping import map_blocks
from callgate.server.ext2.blocks.runs import HOLE
from callgate.server.ext2.directory import DIRECTORY_LIMIT, Directory, Parser
from callgate.server.ext2.groups import Groups, Usage
from callgate.server.ext2.inode import Inode, Inodes
from callgate.server.ext2.metadata import MetadataBlocks
from callgate.server.ext2.structures import (
    BLOCK_SIZE_MINIMUM,
    LOG_BLOCK_SIZE_LIMIT,
    ROOT_INODE,
    SUPERBLOCK_SIZE,
)
from callgate.server.ext2.superblock import Layout, parse_superblock, refuse_unknown
from callgate.server.formats.names import path_of_bytes

DIRECTORIES_KEPT: Final = 32
ENTRIES_KEPT: Final = 16384
FAST_LINK: Final = 60  # shorter targets stand in i_block
LINK_LIMIT: Final = 4096  # bytes of a target, PATH_MAX
_SUPERBLOCK_SECTORS: Final = SUPERBLOCK_SIZE // SECTOR_SIZE


class ExtVolume:
    """A volume as it was mounted; nothing here writes."""

    def __init__(self, reader: SectorReader, layout: Layout) -> None:
        self.layout = layout
        self.blocks = MetadataBlocks(reader, layout)
        self.groups = Groups(self.blocks)
        self.inodes = Inodes(self.blocks, self.groups)
        self.usage = Usage(0, [])
        self.damage: list[str] = []  # found at mounting
        self._directories: Recent[Directory] = Recent(DIRECTORIES_KEPT, ENTRIES_KEPT)

    @classmethod
    async def mount(cls, reader: SectorReader, partition_sectors: int) -> "ExtVolume":
        """Mount the volume of a partition of ``partition_sectors`` 512-byte sectors.

        MountError if it cannot be served; FileSystemError if the disk cannot be read.
        """
        layout, damage = await read_layout(reader, partition_sectors)
        volume = cls(reader, layout)
        volume.damage.extend(damage)
        if layout.end < layout.blocks:
            volume.damage.append(
                f"the superblock says {layout.blocks} blocks of {layout.block_bytes} bytes, the partition holds "
                f"{layout.end} (a truncated image?): what lies beyond cannot be read"
            )
        if layout.journal_pending:
            volume.damage.append("journal not replayed: changes that only it holds are not seen")
        volume.usage = await volume.groups.usage()
        volume.damage.extend(volume.usage.damage)
        await volume._check_root()
        volume.damage.extend(volume.groups.take_fallback())
        return volume

    @property
    def dirty(self) -> bool:
        """Whether the volume was not unmounted, has had errors, or was found damaged at mounting."""
        return not self.layout.clean or bool(self.damage)

    @property
    def label(self) -> str:
        """Return the volume's label."""
        return self.layout.label.split(b"\0")[0].decode("utf-8", "replace")

    @property
    def serial(self) -> int:
        """Return the first 32 bits of the UUID, as it is written out."""
        return int.from_bytes(self.layout.uuid[:4], "big")

    async def _check_root(self) -> None:
        try:
            root = await self.inodes.read(ROOT_INODE)
        except FileSystemError as error:
            raise MountError(f"root directory: {error.text}", error.code) from None
        if not root.is_directory:
            raise MountError(f"root directory: inode {ROOT_INODE} is not a directory")

    async def directory(self, inode: Inode) -> Directory:
        """Return the contents of a directory; `Directory.truncated` describes damage.

        Directories are kept while there are not too many.
        """
        known = self._directories.get(inode.number)
        if known is not None:
            return known
        directory = await self._read_directory(inode)
        if directory.lasting:
            self._directories.keep(inode.number, directory, len(directory.entries))
        return directory

    async def _read_directory(self, inode: Inode) -> Directory:
        size = self.layout.block_bytes
        end = -(-inode.size // size)
        limit = DIRECTORY_LIMIT // size
        parser = Parser(size, has_filetype=self.layout.has_filetype)
        mapped = await map_blocks(self.blocks, inode, 0, min(end, limit))
        at = 0
        for run in mapped.runs:
            if run.block == HOLE:
                parser.lose(f"block {at} is a hole")
            else:
                await self._parse_run(parser, run.block, run.length, at)
            at += run.length
        if mapped.error is not None:
            parser.fail(mapped.error)
        if end > limit:
            parser.lose(f"it is larger than {DIRECTORY_LIMIT} bytes")
        return parser.finish()

    async def _parse_run(self, parser: Parser, block: int, count: int, at: int) -> None:
        """Parse consecutive blocks; one that cannot be read costs no other."""
        size = self.layout.block_bytes
        try:
            data = await self.blocks.read_run(block, count, f"directory block {at}")
        except FileSystemError as error:
            if count == 1:
                parser.fail(error)
                return
            for index in range(count):
                await self._parse_run(parser, block + index, 1, at + index)
            return
        for index in range(count):
            parser.add_block(data[index * size : (index + 1) * size], at + index)

    async def link_target(self, inode: Inode) -> str:
        """Return where a symbolic link points; CORRUPT if that cannot be a path."""
        if not 0 < inode.size < min(LINK_LIMIT, self.layout.block_bytes):
            raise FileSystemError(ErrorCode.CORRUPT, f"inode {inode.number}: a link target of {inode.size} bytes")
        raw = inode.pointers
        if inode.size >= FAST_LINK or inode.has_extents:
            mapped = await map_blocks(self.blocks, inode, 0, 1)
            if mapped.error is not None:
                raise mapped.error
            block = mapped.runs[0].block
            if block == HOLE:
                raise FileSystemError(ErrorCode.CORRUPT, f"inode {inode.number}: the link's target is a hole")
            raw = await self.blocks.read(block, f"link target of inode {inode.number}")
        return path_of_bytes(raw[: inode.size].split(b"\0")[0])


async def read_layout(reader: SectorReader, partition_sectors: int) -> tuple[Layout, list[str]]:
    """Return the layout by the superblock, or by a backup of it if that one is bad."""
    sector = EXT_SUPERBLOCK_OFFSET // SECTOR_SIZE
    if partition_sectors < sector + _SUPERBLOCK_SECTORS:
        raise MountError(f"superblock: the partition of {partition_sectors} sectors ends before it")
    layout, first = await _try(reader, sector, partition_sectors)
    damage: list[str] = []
    for log in range(LOG_BLOCK_SIZE_LIMIT + 1) if layout is None else ():
        size = BLOCK_SIZE_MINIMUM << log
        # Group 1 begins after one full block bitmap; block 0 of 1 KiB blocks belongs to no group.
        place = (8 * size + (log == 0)) * (size // SECTOR_SIZE)
        if place + _SUPERBLOCK_SECTORS <= partition_sectors:
            layout, _ = await _try(reader, place, partition_sectors)
            if layout is not None and layout.block_bytes == size:
                damage.append(f"{first}; the backup in sector {place} is used instead")
                break
            layout = None
    if layout is None:
        raise MountError(first)
    refuse_unknown(layout.features)
    return layout, damage


async def _try(reader: SectorReader, sector: int, partition_sectors: int) -> tuple[Layout | None, str]:
    """Return the layout of the superblock in ``sector``, or None and what is wrong with it."""
    try:
        return parse_superblock(await reader.read(sector, _SUPERBLOCK_SECTORS), partition_sectors), ""
    except FileSystemError as error:
        return None, error.text
