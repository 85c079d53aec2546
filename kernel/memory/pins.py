"""Pins: the resources that a reply or a window holds, a frame of a server or a block of the disk cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callgate.kernel.core.records import Pin
from callgate.kernel.memory.frames import FramePool


class Pins:
    """Releases the resources of pins."""

    def __init__(self, low: FramePool, unlock: Callable[[list[tuple[int, int]]], None]) -> None:
        """Take the pool of the frames, and the function that unlocks blocks, named by (disk's key, number)."""
        self.low = low
        self.unlock = unlock

    def release(self, pins: Iterable[Pin]) -> None:
        """Release frames and blocks of the disk cache."""
        blocks = []
        for kind, first, second in pins:
            if kind == "frame":
                self.low.release(first)
            else:
                blocks.append((first, second))
        self.unlock(blocks)
