"""Physical memory as policy allocates it: two pools of frames, the page tables in the lower one, a page of zeros."""

from __future__ import annotations

from callgate.kernel.core.guest import Guest
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.page_tables import KernelSpace, PageTables


class PhysicalMemory:
    """Frames below 4 GiB for the kernel and programs, above it for blocks of disks."""

    def __init__(self, guest: Guest, low: FramePool, high: FramePool, space: KernelSpace) -> None:
        self.low = low
        self.high = high
        self.space = space
        self.tables = PageTables(guest.quads, low, guest.count_table_writes)

    def cleared(self) -> int:
        """Return a low frame filled with zeros; OutOfMemory if there is none."""
        frame = self.low.allocate()
        self.tables.clear(frame)
        return frame

    def zero_frame(self) -> int:
        """Return the page of zeros that stands for holes of files; it must not be written to."""
        if not self.space.zeros:
            self.space.zeros = self.cleared()
        return self.space.zeros
