"""Page frames: which 4 KiB pages of low and high memory are allocated, and the number of holders of each.

A frame is named by its physical address.  Frames that are mapped in more than one place (a directory
page of a server in its clients, a block of the disk cache) are counted; the last holder frees them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.common.stretches import stretches
from callgate.kernel.core.errors import Shortage

if TYPE_CHECKING:
    Numbers = array[int]
else:
    Numbers = array

ONE = array("I", [1])


class OutOfMemory(Shortage):
    """No frame is left. Callers that can free memory catch it; for all others it means NO_MEMORY."""

    def __init__(self, code: ErrorCode = ErrorCode.NO_MEMORY, text: str = "") -> None:
        super().__init__(code, text)


@record
class FramePool:
    """A range of frames given out lowest first, then most recently freed first.

    `limit` is the end of the range; `counts` has the holders of every frame up to `next`, 0 for those that are free.
    Whatever changes it or `free` counts that in `changes` first, by which a snapshot knows that there is something to
    copy.
    """

    start: int
    limit: int
    next: int  # the lowest frame that was never given out
    free: list[int]
    counts: Numbers
    changes: int

    def __init__(self, start: int, limit: int) -> None:
        self.start = self.next = start
        self.limit = limit
        self.free = []
        self.counts = array("I")
        self.changes = 0

    def allocate(self) -> int:
        """Return a frame with one holder; its content is undefined.  OutOfMemory if none is left."""
        self.changes += 1
        if self.free:
            frame = self.free.pop()
            self.counts[frame - self.start >> PAGE_SHIFT] = 1
        elif self.next < self.limit:
            frame = self.next
            self.next += PAGE_SIZE
            self.counts.append(1)
        else:
            raise OutOfMemory
        return frame

    def allocate_several(self, count: int) -> list[int]:
        """Return `count` frames, or none at all: OutOfMemory."""
        if count > self.available:
            raise OutOfMemory
        return [self.allocate() for _ in range(count)]

    def allocate_ascending(self, count: int) -> Sequence[int]:
        """Return `count` frames in the order of memory, so that many lie side by side; OutOfMemory, or none at all.

        They are a `range` if all of them do.
        """
        if count > self.available:
            raise OutOfMemory
        self.changes += 1
        kept = max(0, len(self.free) - count)
        taken = sorted(self.free[kept:])
        del self.free[kept:]
        pieces = [range(taken[begin], taken[end - 1] + 1, PAGE_SIZE) for begin, end in stretches(taken, PAGE_SIZE)]
        for piece in pieces:
            first = piece.start - self.start >> PAGE_SHIFT
            self.counts[first : first + len(piece)] = ONE * len(piece)
        if count > len(taken):
            begin, self.next = self.next, self.next + (count - len(taken)) * PAGE_SIZE
            self.counts.extend(ONE * (count - len(taken)))
            pieces.append(range(begin, self.next, PAGE_SIZE))
        return pieces[0] if len(pieces) == 1 else [frame for piece in pieces for frame in piece]

    def hold(self, frame: int) -> None:
        """Add a holder to a frame that has been given out; KeyError if it is free, or of another pool."""
        self.changes += 1
        place = frame - self.start >> PAGE_SHIFT
        if not 0 <= place < len(self.counts) or not self.counts[place]:
            raise KeyError(frame)
        self.counts[place] += 1

    def release(self, frame: int) -> bool:
        """Drop one holder; True when that was the last one and the frame is free again; KeyError as `hold`."""
        self.changes += 1
        place = frame - self.start >> PAGE_SHIFT
        held = self.counts[place] if 0 <= place < len(self.counts) else 0
        if held == 1:
            self.counts[place] = 0
            self.free.append(frame)
            return True
        if not held:
            raise KeyError(frame)
        self.counts[place] = held - 1
        return False

    def holds_all(self, frames: range) -> bool:
        """Whether frames side by side, `PAGE_SIZE` apart, have all been given out."""
        first = frames.start - self.start >> PAGE_SHIFT
        counts = self.counts[max(first, 0) : max(first, 0) + len(frames)]
        return first >= 0 and len(counts) == len(frames) and all(counts)

    @property
    def holders(self) -> dict[int, int]:
        """The frames that have been given out, with how many hold each."""
        frames = range(self.start, self.next, PAGE_SIZE)
        return {frame: count for frame, count in zip(frames, self.counts, strict=True) if count}

    @property
    def total(self) -> int:
        """Number of frames in the pool."""
        return (self.limit - self.start) // PAGE_SIZE

    @property
    def used(self) -> int:
        """Number of frames given out."""
        return len(self.counts) - len(self.free)

    @property
    def available(self) -> int:
        """Number of frames that can still be given out."""
        return len(self.free) + (self.limit - self.next) // PAGE_SIZE
