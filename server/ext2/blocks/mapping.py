"""Which blocks of the disk hold which blocks of a file, for every kind of block map."""

from typing import NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.blocks.extents import follow_extents
from callgate.server.ext2.blocks.indirect import follow_pointers
from callgate.server.ext2.blocks.runs import Run, Runs
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.metadata import MetadataBlocks
from callgate.server.ext2.structures import InodeFlags


class Mapped(NamedTuple):
    """Runs of a file from the block asked for, without gaps; ``error`` says why they end early, if they do."""

    runs: list[Run]
    error: FileSystemError | None


async def map_blocks(blocks: MetadataBlocks, inode: Inode, first: int, end: int) -> Mapped:
    """Return the runs that hold blocks ``first`` to ``end`` - 1 of a file, as far as its map is sound.

    Every block that is named lies in the partition.
    """
    runs = Runs(blocks, inode, first, end)
    if first >= end:
        return Mapped([], None)
    try:
        _check_flags(inode)
        await (follow_extents(runs) if inode.has_extents else follow_pointers(runs))
    except FileSystemError as error:
        return Mapped(runs.found, error)
    return Mapped(runs.found, None)


def _check_flags(inode: Inode) -> None:
    """NOT_SUPPORTED if i_block or the data are something else, whatever the superblock's features say."""
    if inode.flags & InodeFlags.INLINE_DATA:
        raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"inode {inode.number}: its data are inline")
    if inode.flags & InodeFlags.ENCRYPT:
        raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"inode {inode.number} is encrypted")
