"""File contents as sectors: which pieces of the disk, and which holes, make up which bytes of a file."""

from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.ext2.blocks.mapping import map_blocks
from callgate.server.ext2.blocks.runs import HOLE, Run
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.volume import ExtVolume
from callgate.server.pieces import Extract, cut, cut_hole, sectors_of


async def locate(volume: ExtVolume, inode: Inode, position: int, wanted: int, start: int) -> Extract:
    """Return the sectors that hold ``wanted`` bytes from ``position``, as far as one reply carries.

    ``start`` is the partition's first LBA, for pieces are of the disk's 4 KiB blocks.  The extract is empty
    at the end of the file.  FileSystemError if the map of the file is damaged at ``position``.
    """
    first = position // SECTOR_SIZE
    end = min(position + wanted, inode.size)
    if end <= position:
        return Extract(first * SECTOR_SIZE, 0, [])
    # No reply reaches further than this; and so neither does the walk through the map.
    last = min(-(-end // SECTOR_SIZE), first + MESSAGE_ADDRESSES * SECTORS_PER_PAGE)
    per_block = volume.layout.block_sectors
    mapped = await map_blocks(volume.blocks, inode, first // per_block, -(-last // per_block))
    if not mapped.runs and mapped.error is not None:
        raise mapped.error
    entries = _cut(mapped.runs, per_block, first, last, start)
    size = min(sectors_of(entries) * SECTOR_SIZE, inode.size - first * SECTOR_SIZE)
    return Extract(first * SECTOR_SIZE, size, entries)


def _cut(runs: list[Run], per_block: int, first: int, last: int, start: int) -> list[int]:
    """Return entries for the file's sectors from ``first`` to ``last`` - 1, as many as a reply carries.

    ``runs`` begin with the block that ``first`` is in.
    """
    entries: list[int] = []
    skipped = first % per_block
    within = _within(runs, per_block, first, start)
    left = last - first
    for run in runs:
        count = min(run.length * per_block - skipped, left)
        room = MESSAGE_ADDRESSES - len(entries)
        if run.block == HOLE:
            entries += cut_hole(within, count, room)
            within = (within + count) % SECTORS_PER_PAGE
        else:
            sector = run.block * per_block + skipped
            entries += cut(start, sector, count, room)
            within = (start + sector + count) % SECTORS_PER_PAGE
        skipped, left = 0, left - count
        if len(entries) == MESSAGE_ADDRESSES:
            break
    return entries


def _within(runs: list[Run], per_block: int, first: int, start: int) -> int:
    """Return where in a page an extract begins that begins with a hole.

    So that the first data after the hole continue at their place on the disk; without any, as if the file lay
    there in one piece, which for blocks of a page or more is the same.
    """
    at = first // per_block * per_block
    for run in runs:
        if run.block != HOLE:
            return (start + run.block * per_block - (at - first)) % SECTORS_PER_PAGE
        at += run.length * per_block
    return (start + first) % SECTORS_PER_PAGE
