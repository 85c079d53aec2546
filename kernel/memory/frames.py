"""Page frames: which 4 KiB pages of low and high memory are allocated, and the number of holders of each.

A frame is named by its physical address.  Frames that are mapped in more than one place (a directory
page of a server in its clients, a block of the disk cache) are counted; the last holder frees them.
"""

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.core.errors import Shortage


class OutOfMemory(Shortage):
    """No frame is left. Callers that can free memory catch it; for all others it means NO_MEMORY."""

    def __init__(self, code: ErrorCode = ErrorCode.NO_MEMORY, text: str = "") -> None:
        super().__init__(code, text)


@record
class FramePool:
    """A range of frames given out lowest first, then most recently freed first.

    `limit` is the end of the range; `holders` counts the holders of every frame given out.  Whatever changes it or
    `free` counts that in `changes` first, by which a snapshot knows that there is something to copy.
    """

    start: int
    limit: int
    next: int  # the lowest frame that was never given out
    free: list[int]
    holders: dict[int, int]
    changes: int

    def __init__(self, start: int, limit: int) -> None:
        self.start = self.next = start
        self.limit = limit
        self.free = []
        self.holders = {}
        self.changes = 0

    def allocate(self) -> int:
        """Return a frame with one holder; its content is undefined.  OutOfMemory if none is left."""
        self.changes += 1
        if self.free:
            frame = self.free.pop()
        elif self.next < self.limit:
            frame = self.next
            self.next += PAGE_SIZE
        else:
            raise OutOfMemory
        self.holders[frame] = 1
        return frame

    def allocate_several(self, count: int) -> list[int]:
        """Return `count` frames, or none at all: OutOfMemory."""
        if count > self.available:
            raise OutOfMemory
        return [self.allocate() for _ in range(count)]

    def allocate_ascending(self, count: int) -> list[int]:
        """Return `count` frames in the order of memory, so that many lie side by side; OutOfMemory, or none at all."""
        if count > self.available:
            raise OutOfMemory
        self.changes += 1
        kept = max(0, len(self.free) - count)
        taken = sorted(self.free[kept:])
        del self.free[kept:]
        begin, self.next = self.next, self.next + (count - len(taken)) * PAGE_SIZE
        taken += range(begin, self.next, PAGE_SIZE)
        self.holders.update(dict.fromkeys(taken, 1))
        return taken

    def hold(self, frame: int) -> None:
        """Add a holder to a frame that has been given out."""
        self.changes += 1
        self.holders[frame] += 1

    def release(self, frame: int) -> bool:
        """Drop one holder; True when that was the last one and the frame is free again."""
        self.changes += 1
        holders = self.holders[frame] - 1
        if holders:
            self.holders[frame] = holders
            return False
        del self.holders[frame]
        self.free.append(frame)
        return True

    @property
    def total(self) -> int:
        """Number of frames in the pool."""
        return (self.limit - self.start) // PAGE_SIZE

    @property
    def used(self) -> int:
        """Number of frames given out."""
        return len(self.holders)

    @property
    def available(self) -> int:
        """Number of frames that can still be given out."""
        return len(self.free) + (self.limit - self.next) // PAGE_SIZE
