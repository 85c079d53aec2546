"""Windows: ranges of user pages that the kernel fills with file data, directories and disk blocks.

A window's pages are mapped read-only and never executable.  What they show is held by pins (frames of a
server, locked blocks of the cache) and by private frames; closing the window releases all of them.
"""

from __future__ import annotations

from dataclasses import field

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.core.errors import PolicyError, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Endpoints, Pin, Process, Window, WindowKind
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.page_tables import USER_READ
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.pins import Pins


@record(eq=True)
class Source:
    """The frames that a window shows, page by page, and their pins."""

    frames: list[int]
    pins: list[Pin]
    private: list[int] = field(default_factory=list)


class Windows:
    """Opening and closing of windows."""

    def __init__(self, guest: Guest, memory: PhysicalMemory, pins: Pins, endpoints: Endpoints) -> None:
        self.guest = guest
        self.memory = memory
        self.pins = pins
        self.endpoints = endpoints

    def open(self, process: Process, kind: WindowKind, source: Source, owner: int = 0) -> Window:
        """Map the source's frames at a free range; takes over its pins, or drops them if it fails."""
        try:
            address = self.find(process, len(source.frames), kind)
        except PolicyError:
            self.drop(source)
            raise
        try:
            self.memory.tables.map_run(process.pointers, address, source.frames, USER_READ, process.tables)
        except OutOfMemory:
            self.memory.tables.unmap_run(process.pointers, address, len(source.frames))
            self.drop(source)
            raise
        window = Window(address, len(source.frames), kind, owner, source.private, source.pins)
        process.windows[address] = window
        process.shown += low_frames(window)
        return window

    def tables_wanted(self, process: Process, kind: WindowKind, pages: int) -> int:
        """Return how many page tables `open` would have to make for this many pages; NO_MEMORY if no range is free."""
        first = self.find(process, pages, kind)
        tables = self.memory.tables
        places = range(first // LARGE_PAGE_SIZE * LARGE_PAGE_SIZE, first + pages * PAGE_SIZE, LARGE_PAGE_SIZE)
        return sum(tables.entry_address(process.pointers, place) is None for place in places)

    def close(self, process: Process, window: Window) -> None:
        """Unmap a window and release what it showed."""
        self.memory.tables.unmap_run(process.pointers, window.address, window.pages)
        self.guest.flush_tlb()
        del process.windows[window.address]
        process.shown -= low_frames(window)
        if window.kind == WindowKind.BLOCKS and process.endpoint in self.endpoints.by_number:
            self.endpoints.by_number[process.endpoint].locked_blocks -= window.pages
        self.drop(Source([], window.pins, window.private))

    def close_all(self, process: Process) -> None:
        """Close every window that shows something held elsewhere."""
        for window in [
            window for window in process.windows.values() if window.kind not in (WindowKind.HEAP, WindowKind.FILE)
        ]:
            self.close(process, window)

    def drop(self, source: Source) -> None:
        """Release a source that is not, or no longer, mapped."""
        self.pins.release(source.pins)
        for frame in source.private:
            self.memory.low.release(frame)

    def find(self, process: Process, pages: int, kind: WindowKind) -> int:
        """First fit in the range of the window's kind, with an unmapped page after every window."""
        start, end = RANGES[kind]
        taken = sorted(
            (window.address, window.pages) for window in process.windows.values() if start <= window.address < end
        )
        address = start
        for other, size in taken:
            if other - address >= (pages + 1) * PAGE_SIZE:
                break
            address = other + (size + 1) * PAGE_SIZE
        if address + pages * PAGE_SIZE > end:
            raise Shortage(ErrorCode.NO_MEMORY)
        return address


def low_frames(window: Window) -> int:
    """Return how many frames of low memory are booked to the process on account of a window."""
    return window.pages if window.kind == WindowKind.DIRECTORY else len(window.private)


RANGES = {
    WindowKind.FILE: (layout.USER_FILES, layout.USER_FILES_END),
    WindowKind.DIRECTORY: (layout.USER_FILES, layout.USER_FILES_END),
    WindowKind.BLOCKS: (layout.USER_METADATA, layout.USER_METADATA_END),
}
