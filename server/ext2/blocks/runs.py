"""Runs of blocks: the common form of both kinds of maps, pointers and extents.

The maps come from a disk that may be damaged. The result is runs in the order of the file, without
gaps, whose blocks lie in the partition; where the map is damaged they end, and the error is raised only if
there is nothing before it.
"""

from typing import Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.metadata import MetadataBlocks

HOLE: Final = 0  # in place of a block's number: a hole


class Run(NamedTuple):
    """``length`` blocks of a file: consecutive ones of the disk from ``block``, or a hole."""

    block: int
    length: int


class Runs:
    """The runs from block ``first`` of a file up to ``end``, growing at their end."""

    def __init__(self, blocks: MetadataBlocks, inode: Inode, first: int, end: int) -> None:
        self.blocks = blocks
        self.inode = inode
        self.at = first  # the next block of the file
        self.end = end
        self.found: list[Run] = []

    def add(self, block: int, length: int) -> None:
        """Append a run, as far as it is wanted; CORRUPT if it is not in the partition, with the part of it that is."""
        layout = self.blocks.layout
        length = min(length, self.end - self.at)
        if block != HOLE and not layout.is_block(block):
            raise self.corrupt(f"block {self.at} of the file is block {block}, the volume has up to {layout.end - 1}")
        there = length if block == HOLE else min(length, layout.end - block)
        self._append(block, there)
        if there < length:
            raise self.corrupt(f"block {self.at} of the file is beyond the end, block {layout.end}")

    def _append(self, block: int, length: int) -> None:
        if length <= 0:
            return
        self.at += length
        if self.found:
            last = self.found[-1]
            follows = last.block + last.length == block if last.block != HOLE else block == HOLE
            if follows and (block == HOLE) == (last.block == HOLE):
                self.found[-1] = Run(last.block, last.length + length)
                return
        self.found.append(Run(block, length))

    def corrupt(self, text: str) -> FileSystemError:
        """Return the error that names the fault of this file."""
        return FileSystemError(ErrorCode.CORRUPT, f"inode {self.inode.number}: {text}")
