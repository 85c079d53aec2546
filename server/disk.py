"""Reading the partition: the interface that file-system readers need, and the server's implementation.

Readers take anything with `SectorReader.read`, so the same code lists a volume inside a server and inside
a tool that merely opened the image.
"""

from typing import Protocol

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import LOCK_BLOCKS_SECTORS
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.counted import Counted
from callgate.server.errors import FileSystemError
from callgate.server.gate import lock_blocks, unlock_blocks
from callgate.server.hosted import VolumeGeometry
from callgate.server.message import ServerMemory


class SectorReader(Protocol):
    """The interface on which a file-system reader is built."""

    async def read(self, sector: int, count: int) -> bytes:
        """Return ``count`` 512-byte sectors of the partition; FileSystemError if they cannot be read."""
        ...


class Disk(Counted):
    """The server's partition, read by locking blocks of the disk cache and copying them.

    For metadata only: file data never passes through here.  Two gate calls for each piece of at most
    LOCK_BLOCKS_SECTORS sectors.
    """

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        self.memory = memory
        self.geometry = geometry

    async def read(self, sector: int, count: int) -> bytes:
        """Return ``count`` 512-byte sectors; FileSystemError if they are outside the partition or unreadable."""
        if sector < 0 or count < 0 or sector + count > self.geometry.sectors:
            raise FileSystemError(
                ErrorCode.IO_ERROR,
                f"sectors {sector} to {sector + count - 1} are not in the partition of {self.geometry.sectors} sectors",
            )
        pieces = []
        for first in range(sector, sector + count, LOCK_BLOCKS_SECTORS):
            size = min(LOCK_BLOCKS_SECTORS, sector + count - first)
            address = await lock_blocks(first, size)
            # No `finally`: if this read faults the server dies, and the kernel releases its locks.
            pieces.append(self.memory.read(address, size * SECTOR_SIZE))
            await unlock_blocks(address)
        return b"".join(pieces)
