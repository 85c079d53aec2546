"""Reading a disk through the cache, as the kernel does to recognise volumes."""

from __future__ import annotations

from callgate.disk.partitioning.partitions import Reader, ReadError
from callgate.kernel.abi.limits import LOCK_BLOCKS_SECTORS
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.storage.cache import Cache


class DiskReader:
    """Reads sectors, which are booked as metadata."""

    def __init__(self, guest: Guest, cache: Cache) -> None:
        self.guest = guest
        self.cache = cache

    def reader(self, disk: int, start: int = 0) -> Reader:
        """Return a function that reads sectors of a disk from LBA `start` on; it raises ReadError."""

        async def read(sector: int, count: int) -> bytes:
            try:
                return await self.read(disk, start + sector, count)
            except PolicyError as error:
                raise ReadError(str(error)) from error

        return read

    async def read(self, disk: int, lba: int, count: int) -> bytes:
        """Return sectors of a disk through the cache; only metadata is read this way."""
        data = b""
        while count:
            piece = min(count, LOCK_BLOCKS_SECTORS)
            data += await self._read_piece(disk, lba, piece)
            lba += piece
            count -= piece
        return data

    async def _read_piece(self, disk: int, lba: int, count: int) -> bytes:
        first, last = lba // SECTORS_PER_PAGE, (lba + count - 1) // SECTORS_PER_PAGE
        locked = await self.cache.read_locked(disk, list(range(first, last + 1)))
        data = b"".join(self.guest.ram.read(frame, PAGE_SIZE, Account.METADATA) for frame in locked.frames)
        self.cache.unlock(locked.keys)
        start = (lba - first * SECTORS_PER_PAGE) * SECTOR_SIZE
        return data[start : start + count * SECTOR_SIZE]
