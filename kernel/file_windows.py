"""File windows: where processes see file data, filled when they touch it, emptied when they leave it alone.

A window shows up to 64 MiB of a file as one piece of linear memory; byte p of the file lies at window + shift + p -
position.  It is read-only, but for whole pages of a file that was opened to be written (`kernel/file_writing.py`):
what is written there is in the cache, and so in every window, at once, and stays in the cache.  Pages of a request
block that is READY are mapped all at once, when the first of them is touched or asked for: that page fault is what
tells the kernel how a reader moves on, so it is also where the next ranges are asked for.  What has not been accessed
for a while is unmapped (kernel/file_ageing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_WINDOW_BYTES
from callgate.kernel.abi.limits import MAPPED_BLOCKS
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.address_space import USER_DATA, USER_READ
from callgate.kernel.errors import PolicyError
from callgate.kernel.file_objects import FileObject, Fill, publish
from callgate.kernel.file_writing import address_of
from callgate.kernel.frames import OutOfMemory
from callgate.kernel.records import OpenFile, Process, Window

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

AHEAD_LIMIT = 8  # request blocks ahead of a sequential reader, 506 pages each


class FileWindows:
    """Windows of all processes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def span(self, file: FileObject) -> int:
        """Return the pages of a window on a file: one more than its bytes need, for the shift."""
        return -(-min(max(file.size, 1), FILE_WINDOW_BYTES) // PAGE_SIZE) + 1

    def open(self, process: Process, file: FileObject, *, writable: bool) -> OpenFile:
        """Reserve a window, nothing in it yet, and map the file's page in front of it."""
        windows, tables = self.kernel.windows, self.kernel.memory.tables
        pages = self.span(file) + 1
        address = windows.find(process, pages, "file")
        try:
            tables.map(process.pointers, address, file.frame, USER_READ, process.tables)
        except OutOfMemory:
            raise PolicyError(ErrorCode.NO_MEMORY) from None
        process.windows[address] = Window(address, pages, "file", file.number)
        return OpenFile(file.number, address + PAGE_SIZE, address, writable)

    def close(self, process: Process, opened: OpenFile, file: FileObject) -> None:
        """Take a window away with everything in it."""
        for fill in list(file.fills):
            self._unmap_from(process, opened, file, fill)
        self.kernel.memory.tables.unmap(process.pointers, opened.page)
        self.kernel.guest.flush_tlb()
        del process.windows[opened.page]

    def address(self, opened: OpenFile, file: FileObject, position: int) -> int:
        """Return where a byte of the file lies, or would lie, in the process."""
        return opened.window + (file.shift or 0) + position - opened.position

    def shows(self, opened: OpenFile, file: FileObject, position: int) -> bool:
        """Whether a byte of the file lies within the window."""
        return 0 <= position - opened.position < FILE_WINDOW_BYTES - (file.shift or 0)

    def move(self, process: Process, opened: OpenFile, file: FileObject, position: int) -> None:
        """Have the window show another part of a large file."""
        for fill in list(file.fills):
            self._unmap_from(process, opened, file, fill)
        self.kernel.guest.flush_tlb()
        opened.position = position // LARGE_PAGE_SIZE * LARGE_PAGE_SIZE

    # Filling.

    async def touch(self, process: Process, opened: OpenFile, file: FileObject, position: int, wanted: int) -> Fill:
        """Have the data at `position` mapped; wait for it if need be; ask for what comes next."""
        sequential = position == opened.expected or self._within(file, opened.expected, position)
        fill = await self.kernel.fills.obtain(file, position, wanted)
        if not any(opened is other for other in process.files.values()):
            raise PolicyError(ErrorCode.BAD_HANDLE)  # closed meanwhile; its place may be another file's by now
        fill.ahead = False
        fill.idle = 0
        self._make_room(process, opened, file, fill)
        self.map(process, opened, file, fill)
        if not sequential:
            opened.ahead = 0
        elif fill.end != opened.expected:
            opened.ahead = min(max(1, 2 * opened.ahead), AHEAD_LIMIT)
        opened.expected = fill.end
        await self._read_ahead(file, fill, opened.ahead)
        return fill

    def _within(self, file: FileObject, expected: int, position: int) -> bool:
        """Whether a position is in the request block that a sequential reader would come to next."""
        fill = file.covering(expected)
        return fill is not None and fill.position <= position < fill.end

    async def _read_ahead(self, file: FileObject, fill: Fill, count: int) -> None:
        """Post the next `count` request blocks, as far as that can be done without waiting."""
        fills, at = self.kernel.fills, fill.end
        for _ in range(count):
            following = file.covering(at)
            if following is None:
                if at >= file.size or not fills.room_to_post(file) or not self._room_for(file.size - at):
                    return
                try:
                    following = await fills.post(file, at, FILE_WINDOW_BYTES, ahead=True)
                except PolicyError:
                    return  # whoever needs it will hear why
            at = following.end

    def _room_for(self, size: int) -> bool:
        """Whether the cache has room for one more request block without taking from those in use."""
        wanted = min(-(-size // PAGE_SIZE), self.kernel.cache.most)
        return self.kernel.memory.high.available >= wanted or self.kernel.cache.unlocked >= wanted

    def _make_room(self, process: Process, opened: OpenFile, file: FileObject, fill: Fill) -> None:
        """Let go of idle data if request blocks are mapped as often as they may be; NO_MEMORY if there are none.

        Or if the process must not have the page tables that a request block needs in its window.
        """
        pages, tables = self.pages(opened, file, fill), self.kernel.memory.tables
        first = pages.start // LARGE_PAGE_SIZE * LARGE_PAGE_SIZE
        covered = [tables.entry_address(process.pointers, at) for at in range(first, pages.stop, LARGE_PAGE_SIZE)]
        state = self.kernel.fills.state
        if state.mapped < MAPPED_BLOCKS and None not in covered:
            return
        with self.kernel.fills.keeping(fill):
            while state.mapped >= MAPPED_BLOCKS:
                if not self.reclaim(enough=lambda: state.mapped < MAPPED_BLOCKS):
                    raise PolicyError(ErrorCode.NO_MEMORY, f"request blocks are mapped {MAPPED_BLOCKS} times")
            if None in covered:
                self.kernel.shares.check_frames(process, covered.count(None))

    def map(self, process: Process, opened: OpenFile, file: FileObject, fill: Fill) -> None:
        """Map every page of a request block that the window shows."""
        user = (process.number, opened.page)
        if opened.writable and user in fill.users:
            # It is there already: dirty bits would go with the entries that are written anew.
            self._unmap_from(process, opened, file, fill)
            self.kernel.guest.flush_tlb()
        if user not in fill.users:
            self.kernel.fills.state.mapped += 1
        shown = self.shown(opened, file, fill)
        writable, fill.users[user] = self.kernel.file_writing.claim(fill, shown) if opened.writable else (set(), {})
        try:
            for begin, end, flags in runs_of(shown, writable):
                linear = address_of(opened, fill, begin)
                self.kernel.memory.tables.map_run(
                    process.pointers, linear, fill.frames[begin:end], flags, process.tables
                )
        except OutOfMemory:
            self._unmap_from(process, opened, file, fill)
            raise PolicyError(ErrorCode.NO_MEMORY) from None
        self.kernel.ageing_timer.watch()

    # Emptying.

    def unmap(self, file: FileObject, fill: Fill) -> None:
        """Take a request block out of every window."""
        for number, page in list(fill.users):
            process = self.kernel.state.tasks.processes[number]
            opened = self.opened(process, page)
            assert opened is not None  # closing takes everything out of a window
            self._unmap_from(process, opened, file, fill)
        self.kernel.guest.flush_tlb()

    def opened(self, process: Process, page: int) -> OpenFile | None:
        """Return the open file whose FilePage a process has at an address."""
        return next((opened for opened in process.files.values() if opened.page == page), None)

    def _unmap_from(self, process: Process, opened: OpenFile, file: FileObject, fill: Fill) -> None:
        """Clear a request block's entries in one window; the caller flushes the TLB."""
        user = (process.number, opened.page)
        if user not in fill.users:
            return
        self.kernel.file_writing.disclaim(process, opened, fill)
        pages = self.pages(opened, file, fill)
        self.kernel.memory.tables.unmap_run(process.pointers, pages.start, len(pages))

    def shown(self, opened: OpenFile, file: FileObject, fill: Fill) -> range:
        """Return which of a request block's pages a window shows."""
        first = fill.first_page - opened.position // PAGE_SIZE
        low = max(0, -first)
        return range(low, max(low, min(len(fill.frames), self.span(file) - first)))

    def pages(self, opened: OpenFile, file: FileObject, fill: Fill) -> range:
        """Return the addresses of a request block's pages in a window."""
        shown = self.shown(opened, file, fill)
        begin = address_of(opened, fill, shown.start)
        return range(begin, begin + len(shown) * PAGE_SIZE, PAGE_SIZE)

    def release(self, file: FileObject, fill: Fill) -> None:
        """Let go of a READY request block."""
        self.unmap(file, fill)
        self.kernel.fills.drop(file, fill)

    # Under pressure.

    def reclaim(
        self,
        *,
        low: bool = False,
        only: FileObject | None = None,
        server: int | None = None,
        enough: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Let go of request blocks, the most idle ones first, until that is `enough`; False if there is none.

        One that is mapped may go too: a thread that touches it again gets it again.  `low`: those that hold low memory;
        `only`: those of this file; `server`: those that lie in the memory of the server of this partition.
        """
        found: list[tuple[FileObject, Fill]] = []
        for file in (only,) if only is not None else self.kernel.files.objects.values():
            if server is not None and file.partition != server:
                continue
            for fill in file.fills:
                kept = (low and not fill.holds_low) or (server is not None and not fill.server_request)
                if fill.idling and not kept:
                    found.append((file, fill))
        found.sort(key=lambda item: (-item[1].idle, item[1].number))
        changed: dict[int, FileObject] = {}
        for file, fill in found:
            self.release(file, fill)
            changed[file.number] = file
            if enough():
                break
        for file in changed.values():
            publish(self.kernel.guest.ram, file)
        return bool(found)


def runs_of(pages: range, writable: Container[int]) -> Iterator[tuple[int, int, int]]:
    """Cut pages into runs that are mapped alike: (first, behind the last, flags of their entries)."""
    begin = pages.start
    for kind, run in groupby(pages, writable.__contains__):
        end = begin + len(list(run))
        yield begin, end, USER_DATA if kind else USER_READ
        begin = end
