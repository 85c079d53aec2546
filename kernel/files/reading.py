"""Reading: MAP_FILE and page faults in windows, which map file data and read ahead.

Pages of a span that is READY are mapped all at once, when the first of them is touched or requested: that page fault
shows the kernel how a reader moves on, so the next ranges are requested there too. Data that have not been accessed for
a while are unmapped (kernel/file_data/ageing.py).
"""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_AREAS, FILE_SEQUENCE_NONE, FILE_WINDOW_BYTES, SpanState
from callgate.kernel.abi.limits import MAPPED_BLOCKS
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.core.errors import CallerError, PolicyError, Shortage
from callgate.kernel.core.records import OpenFile, Process
from callgate.kernel.file_data.fetching import SPAN_BYTES, Fetching
from callgate.kernel.file_data.mapping import FileMapping
from callgate.kernel.file_data.objects import FileObject, FilesState, check_valid, sequence_of
from callgate.kernel.file_data.spans import Span
from callgate.kernel.file_data.window_pages import addresses_of, opened_file, page_count, position_address, shows
from callgate.kernel.storage.cache import Cache
from callgate.kernel.tasks.shares import Shares

AHEAD_LIMIT = 8  # spans ahead of a sequential reader, 506 pages each
MAPPED_AHEAD = 4  # of those, the most that are mapped with the one that the reader comes to
TOUCH_BYTES = 16 * PAGE_SIZE  # requested, at least, for a random reader
CROWDED = FILE_AREAS - 2 * FILE_WINDOW_BYTES // SPAN_BYTES  # areas; only gaps that one request cannot fill add more


class Reading:
    """Brings data into windows."""

    def __init__(
        self, state: FilesState, cache: Cache, shares: Shares, fetching: Fetching, mapping: FileMapping
    ) -> None:
        self.state = state
        self.cache = cache
        self.shares = shares
        self.fetching = fetching
        self.letting_go = fetching.letting_go
        self.mapping = mapping

    async def map(self, process: Process, handle: int, position: int, wanted: int) -> tuple[int, int, int]:
        """Return (address, bytes) of file data at `position`, and the FilePage's sequence that vouches for it.

        (0, 0, FILE_SEQUENCE_NONE) at or after the end.
        """
        opened = opened_file(process, handle)
        file = self.state.objects[opened.object]
        check_valid(file)
        if position >= file.size or wanted == 0:
            return 0, 0, FILE_SEQUENCE_NONE
        mapping = self.mapping
        while True:
            if not shows(opened, file, position):
                mapping.move(process, opened, file, position)
            span = await self.touch(process, opened, file, position, self._ask(opened, file, position, wanted))
            # The first data show where pages begin, and another thread may have moved the window; reading ahead may
            # have taken over a page that was not complete (`FilePages.begin`).
            if shows(opened, file, position) and position < span.end:
                break
        end = min(span.end, opened.position + FILE_WINDOW_BYTES - (file.shift or 0))
        stands = span in file.spans  # it may have been released while the next data were requested
        sequence = sequence_of(self.mapping.guest.ram, file) if stands else FILE_SEQUENCE_NONE
        return position_address(opened, file, position), end - position, sequence

    async def fault(self, process: Process, address: int) -> bool:
        """Map a page of a file window that has been touched and is not mapped. False if there is no such file.

        PolicyError if the data are not available.
        """
        found = self.at(process, address)
        if found is None:
            return False
        opened, file = found
        check_valid(file)
        page = (address - opened.window) // PAGE_SIZE + opened.position // PAGE_SIZE
        start = file.page_start(page)
        inside = opened.position + address - opened.window - (file.shift or 0)
        position = max(start, min(inside, file.size - 1))
        if start >= file.size:
            return False
        wanted = self._ask(opened, file, position, 1)
        await self.touch(process, opened, file, position, wanted)
        return True

    def at(self, process: Process, address: int) -> tuple[OpenFile, FileObject] | None:
        """Return the open file in whose window an address lies."""
        for opened in process.files.values():
            file = self.state.objects[opened.object]
            if 0 <= address - opened.window < page_count(file) * PAGE_SIZE:
                return opened, file
        return None

    def _ask(self, opened: OpenFile, file: FileObject, position: int, wanted: int) -> int:
        """Return how many bytes to request: all that one request brings while the reader moves on in order.

        And all up to the next span in memory when the file's page has hardly room for another area.
        """
        if len(file.areas()) >= CROWDED:
            return max(wanted, file.next_start(position) - position)
        following = file.covering(opened.expected)
        expected = position == opened.expected or (following is not None and file.covering(position) is following)
        return max(wanted, SPAN_BYTES if expected else TOUCH_BYTES)

    async def touch(self, process: Process, opened: OpenFile, file: FileObject, position: int, wanted: int) -> Span:
        """Map the data at `position`, waiting for them if need be; request the next ones."""
        sequential = position == opened.expected or self._within(file, opened.expected, position)
        span = await self.fetching.obtain(file, position, wanted)
        if not any(opened is other for other in process.files.values()):
            raise CallerError(ErrorCode.BAD_HANDLE)  # closed meanwhile; its place may be another file's by now
        span.ahead = False
        span.idle = 0
        self._make_room(process, opened, file, span)
        self.mapping.map(process, opened, file, span)
        if not sequential:
            opened.ahead = 0
        elif span.end != opened.expected:
            opened.ahead = min(max(1, 2 * opened.ahead), AHEAD_LIMIT)
        opened.expected = self._map_ahead(process, opened, file, span)
        await self._read_ahead(file, span, opened.ahead)
        return span

    def _map_ahead(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> int:
        """Map what has arrived of the spans that a sequential reader comes to next; return the position after them.

        One page fault does for all of them, and so does one look at what to request next.  Nothing is released for it,
        and a page that may be written to is mapped only when it is touched.
        """
        at = span.end
        for _ in range(0 if opened.writable else min(opened.ahead, MAPPED_AHEAD)):
            following = file.covering(at)
            if following is None:
                break
            if not self.mapping.has(process, opened, following):  # entries written again would say that it is not used
                if not self._can_be_mapped(process, opened, file, following):
                    break
                try:
                    self.mapping.map(process, opened, file, following)
                except PolicyError:
                    break  # a reader that needs it will have the error
                following.ahead = False
                following.idle = 0
            at = following.end
        return at

    def _can_be_mapped(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> bool:
        """Whether a span can be mapped at once: it has arrived as a whole, lies in the window, and there is room."""
        if span.state is not SpanState.READY or not self.fetching.ends_with_page(file, span):
            return False
        if not shows(opened, file, span.position) or self.state.mapped >= MAPPED_BLOCKS:
            return False
        missing = self._tables_of(process, opened, file, span).count(None)
        return not missing or self.shares.has_frames(process, missing)

    def _tables_of(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> list[int | None]:
        """Return the addresses of the entries with which the pieces of a span's page tables begin; None: no table."""
        pages = addresses_of(opened, file, span)
        first = pages.start // LARGE_PAGE_SIZE * LARGE_PAGE_SIZE
        tables = self.mapping.tables
        return [tables.entry_address(process.pointers, at) for at in range(first, pages.stop, LARGE_PAGE_SIZE)]

    def _within(self, file: FileObject, expected: int, position: int) -> bool:
        """Whether a position is in the span that a sequential reader would come to next."""
        span = file.covering(expected)
        return span is not None and span.position <= position < span.end

    def _make_room(self, process: Process, opened: OpenFile, file: FileObject, span: Span) -> None:
        """Release idle data if spans are mapped as often as they may be; NO_MEMORY if there are none.

        Or if the process must not have the page tables that a span needs in its window.
        """
        covered = self._tables_of(process, opened, file, span)
        state = self.state
        if state.mapped < MAPPED_BLOCKS and None not in covered:
            return
        with self.fetching.hunger.keeping(span):
            while state.mapped >= MAPPED_BLOCKS:
                if not self.letting_go.reclaim(enough=lambda: state.mapped < MAPPED_BLOCKS):
                    raise Shortage(ErrorCode.NO_MEMORY, f"spans are mapped {MAPPED_BLOCKS} times")
            if None in covered:
                self.shares.check_frames(process, covered.count(None))

    async def _read_ahead(self, file: FileObject, span: Span, count: int) -> None:
        """Post the next `count` spans, as far as that can be done without waiting."""
        fetching, at = self.fetching, span.end
        for _ in range(count):
            following = file.covering(at)
            if following is None:
                if at >= file.size or not fetching.room_to_post(file) or not self._room_for(file.size - at):
                    return
                try:
                    following = await fetching.post(file, at, FILE_WINDOW_BYTES)
                except PolicyError:
                    return  # a reader that needs it will have the error
            at = following.end

    def _room_for(self, size: int) -> bool:
        """Whether the cache has room for one more span without evicting those in use."""
        wanted = min(-(-size // PAGE_SIZE), self.cache.most)
        return self.cache.high.available >= wanted or self.cache.unlocked >= wanted
