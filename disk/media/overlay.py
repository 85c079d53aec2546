"""Copy on write: a medium that can be written while the image below it stays as it is."""

from collections.abc import Sequence

from callgate.disk.media.medium import Medium, check_bounds
from callgate.kernel.abi.memory import SECTOR_SIZE


class Overlay:
    """Written sectors live in host memory and hide those of the medium below."""

    read_only = False

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self.sector_count = medium.sector_count
        self.written: dict[int, bytes] = {}

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read from below, then put the written sectors over that.  MediumError."""
        self.medium.read_into(lba, views)
        if not self.written:
            return
        position = lba * SECTOR_SIZE
        for view in views:
            self._cover(position, view)
            position += len(view)

    def _cover(self, position: int, view: memoryview) -> None:
        """Copy written sectors over a view of the bytes from `position` on; views need not begin with one."""
        end = position + len(view)
        for sector in range(position // SECTOR_SIZE, -(-end // SECTOR_SIZE)):
            data = self.written.get(sector)
            if data is None:
                continue
            start = sector * SECTOR_SIZE
            low, high = max(start, position), min(start + SECTOR_SIZE, end)
            view[low - position : high - position] = data[low - start : high - start]

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Keep the sectors.  MediumError if they leave the medium."""
        check_bounds(self, lba, views)
        data = b"".join(views)
        for index in range(len(data) // SECTOR_SIZE):
            self.written[lba + index] = data[index * SECTOR_SIZE : (index + 1) * SECTOR_SIZE]

    def flush(self) -> None:
        """Do nothing: memory is all the storage there is."""

    def delay(self, lba: int, sectors: int) -> int:
        """Return the answer of the medium below."""
        return self.medium.delay(lba, sectors)

    def close(self) -> None:
        """Forget the written sectors and close the medium below."""
        self.written.clear()
        self.medium.close()
