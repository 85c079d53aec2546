"""Mapping of file data: page-table entries for data in memory, in the windows of processes.

A window shows up to 64 MiB of a file as one piece of linear memory; byte p of the file lies at window + shift + p -
position.  It is read-only, except whole pages of a file that was opened to be written (`kernel/file_data/writing.py`):
a write there changes the block of the cache, so every window shows it at once, and it stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import groupby

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.core.errors import Shortage
from callgate.kernel.core.records import OpenFile, Process, Tasks, Window, WindowKind
from callgate.kernel.file_data.ageing_timer import AgeingTimer
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.file_data.window_pages import address_of, addresses_of, opened_at, page_count, shown_pages
from callgate.kernel.file_data.writing import FileWriting
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.page_tables import USER_DATA, USER_READ
from callgate.kernel.memory.windows import Windows


class FileMapping:
    """Maps spans into the windows of all processes."""

    def __init__(
        self, state: FilesState, tasks: Tasks, windows: Windows, writing: FileWriting, timer: AgeingTimer
    ) -> None:
        self.state = state
        self.tasks = tasks
        self.windows = windows
        self.guest = windows.guest
        self.tables = windows.memory.tables
        self.writing = writing
        self.timer = timer

    def open(self, process: Process, file: FileObject, *, writable: bool) -> OpenFile:
        """Reserve an empty window, and map the file's page before it.

        NO_MEMORY if the process has no room for the window, or there is no memory for page tables.
        """
        windows, tables = self.windows, self.tables
        pages = page_count(file) + 1
        address = windows.find(process, pages, WindowKind.FILE)
        try:
            tables.map(process.pointers, address, file.frame, USER_READ, process.tables)
        except OutOfMemory:
            raise Shortage(ErrorCode.NO_MEMORY) from None
        process.windows[address] = Window(address, pages, WindowKind.FILE, file.number)
        return OpenFile(file.number, address + PAGE_SIZE, address, writable)

    def close(self, process: Process, opened: OpenFile, file: FileObject) -> None:
        """Remove a window with everything mapped in it."""
        for span in list(file.spans):
            self._unmap_from(process, opened, file, span)
        self.tables.unmap(process.pointers, opened.page)
        self.guest.flush_tlb()
        del process.windows[opened.page]

    def move(self, process: Process, opened: OpenFile, file: FileObject, position: int) -> None:
        """Have the window show the part of a large file that `position` lies in, from a multiple of 2 MiB on."""
        for span in list(file.spans):
            self._unmap_from(process, opened, file, span)
        self.guest.flush_tlb()
        opened.position = position // LARGE_PAGE_SIZE * LARGE_PAGE_SIZE

    def has(self, process: Process, opened: OpenFile, span: Span) -> bool:
        """Whether a window has a span mapped."""
        return (process.number, opened.page) in span.users

    def map(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> None:
        """Map every page of a span that the window shows; with NO_MEMORY (page tables) none is mapped."""
        user = (process.number, opened.page)
        if opened.writable and user in span.users:
            # Already mapped.  Rewriting the entries would lose their dirty bits, so unmap first, which collects them.
            self._unmap_from(process, opened, file, span)
            self.guest.flush_tlb()
        if user not in span.users:
            self.state.mapped += 1
        shown = shown_pages(opened, file, span)
        writable, span.users[user] = self.writing.claim(process, span, shown) if opened.writable else (set(), {})
        try:
            for begin, end, flags in runs_of(shown, writable):
                linear = address_of(opened, span, begin)
                self.tables.map_run(process.pointers, linear, span.frames[begin:end], flags, process.tables)
        except OutOfMemory:
            self._unmap_from(process, opened, file, span)
            raise Shortage(ErrorCode.NO_MEMORY) from None
        self.timer.watch()

    def unmap(self, file: FileObject, span: Span) -> None:
        """Unmap a span from every window."""
        for number, page in list(span.users):
            process = self.tasks.processes[number]
            opened = opened_at(process, page)
            assert opened is not None  # closing unmaps everything from a window
            self._unmap_from(process, opened, file, span)
        self.guest.flush_tlb()

    def _unmap_from(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> None:
        """Clear a span's entries in one window; the caller flushes the TLB."""
        user = (process.number, opened.page)
        if user not in span.users:
            return
        self.writing.disclaim(process, opened, span)
        pages = addresses_of(opened, file, span)
        self.tables.unmap_run(process.pointers, pages.start, len(pages))


def runs_of(pages: range, writable: AbstractSet[int]) -> Iterator[tuple[int, int, int]]:
    """Cut pages into runs that are mapped alike: (first, the page after the last, flags of their entries)."""
    if not writable:
        yield pages.start, pages.stop, USER_READ
        return
    begin = pages.start
    for kind, run in groupby(pages, writable.__contains__):
        end = begin + len(list(run))
        yield begin, end, USER_DATA if kind else USER_READ
        begin = end
