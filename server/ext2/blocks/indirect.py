"""Block maps of ext2 and ext3: twelve pointers in the inode, then one, two and three levels of indirect blocks."""

import struct
from collections.abc import Sequence
from typing import Final

from callgate.server.ext2.blocks.runs import HOLE, Runs
from callgate.server.ext2.structures import DIRECT_BLOCKS, INDIRECT_LEVELS, POINTER_SIZE

_INODE_POINTERS: Final = struct.Struct(f"<{DIRECT_BLOCKS + INDIRECT_LEVELS}I")


async def follow_pointers(runs: Runs) -> None:
    """Add the runs from `runs.at` to `runs.end`; FileSystemError where the map is damaged.

    The depth of a tree follows from its place in the inode, so even a cycle ends; a block that is its own ancestor is
    an error all the same.
    """
    pointers = _INODE_POINTERS.unpack(runs.inode.pointers)
    add_pointers(runs, pointers[:DIRECT_BLOCKS], 0)
    fan_out = runs.blocks.layout.block_bytes // POINTER_SIZE
    base = DIRECT_BLOCKS
    for level in range(1, INDIRECT_LEVELS + 1):
        span = fan_out**level
        if runs.at < runs.end and runs.at < base + span:
            await _descend(runs, pointers[DIRECT_BLOCKS + level - 1], base, level, ())
        base += span
    if runs.at < runs.end:
        raise runs.corrupt(f"block {runs.at} of the file is beyond what pointers reach, {base} blocks")


def add_pointers(runs: Runs, pointers: Sequence[int], base: int) -> None:
    """Add the blocks of a table of pointers, whose first is for block ``base`` of the file."""
    for pointer in pointers[max(runs.at - base, 0) : max(runs.end - base, 0)]:
        runs.add(pointer, 1)


async def _descend(runs: Runs, block: int, base: int, level: int, above: tuple[int, ...]) -> None:
    """Add what the indirect block ``block`` of ``level`` maps: file blocks from ``base`` on."""
    fan_out = runs.blocks.layout.block_bytes // POINTER_SIZE
    below = fan_out ** (level - 1)
    if block == HOLE:
        runs.add(HOLE, base + fan_out * below - runs.at)
        return
    what = f"inode {runs.inode.number}: indirect block {block} of level {level}"
    if block in above:
        raise runs.corrupt(f"indirect block {block} of level {level} is among those that lead to it")
    if not runs.blocks.layout.is_block(block):
        raise runs.corrupt(f"an indirect block of level {level} is block {block}, which the volume does not have")
    data = await runs.blocks.read(block, what)
    pointers = struct.unpack(f"<{fan_out}I", data)
    if level == 1:
        add_pointers(runs, pointers, base)
        return
    for index in range((runs.at - base) // below, fan_out):
        if runs.at >= runs.end:
            return
        await _descend(runs, pointers[index], base + index * below, level - 1, (*above, block))
