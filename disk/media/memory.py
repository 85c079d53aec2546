"""A disk in host memory."""

from collections.abc import Sequence

from callgate.disk.media.medium import NoDelay, check_bounds, refuse_to_write
from callgate.kernel.abi.memory import SECTOR_SIZE


class MemoryMedium(NoDelay):
    """A disk in host memory, for tests."""

    def __init__(self, data: bytes | bytearray, *, read_only: bool = False) -> None:
        """`data` is padded to whole sectors; a bytearray that is only read is not copied."""
        if read_only and isinstance(data, bytearray) and len(data) % SECTOR_SIZE == 0:
            self.data = data
        else:
            self.data = bytearray(data) + bytes(-len(data) % SECTOR_SIZE)
        self.read_only = read_only
        self.flushes = 0

    @property
    def sector_count(self) -> int:
        """Number of 512-byte sectors."""
        return len(self.data) // SECTOR_SIZE

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Copy into the views."""
        check_bounds(self, lba, views)
        offset = lba * SECTOR_SIZE
        for view in views:
            view[:] = self.data[offset : offset + len(view)]
            offset += len(view)

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Copy from the views."""
        if self.read_only:
            refuse_to_write(lba)
        check_bounds(self, lba, views)
        offset = lba * SECTOR_SIZE
        for view in views:
            self.data[offset : offset + len(view)] = view
            offset += len(view)

    def flush(self) -> None:
        """Count the flush."""
        self.flushes += 1

    def close(self) -> None:
        """Nothing to release."""
