"""Media with faults, wrapped around a good one: bad sectors, slow sectors, removal at a chosen moment.

Faults are devices: no controller and no kernel code knows that they exist.
"""

from collections.abc import Callable, Mapping, Sequence

from callgate.disk.media.medium import Medium, MediumError, MediumRemovedError
from callgate.kernel.abi.memory import SECTOR_SIZE


class FaultInjecting:
    """A medium whose sectors in `bad` cannot be read or written, and that may disappear or be slow.

    It disappears after `removed_after` transfers, or when `clock()` has reached `removed_at`.  `slow` maps sectors to
    additional ns of virtual time.
    """

    def __init__(
        self,
        medium: Medium,
        *,
        bad: Sequence[int] = (),
        removed_after: int | None = None,
        removed_at: int | None = None,
        clock: Callable[[], int] | None = None,
        slow: Mapping[int, int] | None = None,
    ) -> None:
        if removed_at is not None and clock is None:
            raise ValueError("removed_at needs a clock")
        self.medium = medium
        self.bad = frozenset(bad)
        self.left = removed_after
        self.removed_at = removed_at
        self.clock = clock
        self.slow = dict(slow or {})
        self.read_only = medium.read_only
        self.sector_count = medium.sector_count

    def _check(self, lba: int, views: Sequence[memoryview]) -> None:
        if self.removed_at is not None and self.clock is not None and self.clock() >= self.removed_at:
            raise MediumRemovedError(lba, "the disk has been removed")
        if self.left is not None:
            if self.left == 0:
                raise MediumRemovedError(lba, "the disk has been removed")
            self.left -= 1
        sectors = sum(len(view) for view in views) // SECTOR_SIZE
        for sector in range(lba, lba + sectors):
            if sector in self.bad:
                raise MediumError(sector, "unrecoverable read error")

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read, unless a fault is due."""
        self._check(lba, views)
        self.medium.read_into(lba, views)

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Write, unless a fault is due."""
        self._check(lba, views)
        self.medium.write_from(lba, views)

    def flush(self) -> None:
        """Flush the medium below."""
        self.medium.flush()

    def delay(self, lba: int, sectors: int) -> int:
        """Return the extra time of the slowest of these sectors."""
        slowest = max((self.slow[at] for at in range(lba, lba + sectors) if at in self.slow), default=0)
        return slowest + self.medium.delay(lba, sectors)

    def close(self) -> None:
        """Close the medium below."""
        self.medium.close()
