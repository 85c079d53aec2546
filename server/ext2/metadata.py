"""Blocks of metadata for the volume's readers: whole, in order, the last ones kept."""

from typing import Final

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError
from callgate.server.ext2.superblock import Layout

BYTES_KEPT: Final = 1 << 20
BLOCKS_KEPT: Final = 512


class MetadataBlocks:
    """The volume's blocks by number; for group descriptors, inode tables, indirect blocks and extent nodes."""

    def __init__(self, reader: SectorReader, layout: Layout) -> None:
        self.reader = reader
        self.layout = layout
        self._kept: Recent[bytes] = Recent(BLOCKS_KEPT, BYTES_KEPT)

    async def read(self, block: int, what: str) -> bytes:
        """Return one block; CORRUPT if it is not in the partition: then ``what`` points outside."""
        known = self._kept.get(block)
        if known is not None:
            return known
        data = await self.read_run(block, 1, what)
        self._kept.keep(block, data, len(data))
        return data

    async def read_run(self, block: int, count: int, what: str) -> bytes:
        """Return consecutive blocks, none of them kept."""
        if block < 0 or block + count > self.layout.end:
            raise FileSystemError(ErrorCode.CORRUPT, f"{what}: block {block + count - 1} is not in the partition")
        try:
            return await self.reader.read(self.layout.sector_of(block), count * self.layout.block_sectors)
        except FileSystemError as error:
            raise FileSystemError(error.code, f"{what}: {error.text}") from None

    async def read_ahead(self, block: int, count: int, what: str) -> None:
        """Read ahead blocks that will be requested one by one; errors are reported then."""
        count = min(count, self.layout.end - block)
        if block < 0 or count <= 0:
            return
        try:
            data = await self.read_run(block, count, what)
        except FileSystemError:
            return
        size = self.layout.block_bytes
        for index in range(count):
            self._kept.keep(block + index, data[index * size : (index + 1) * size], size)
