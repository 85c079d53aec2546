"""Pages of files: the parts of each, and how it is put together from them.

Whole blocks of the disk become pages of the file as they are.  Blocks that hold other data too (the head and tail of
a piece, rule 7), and pages of files with clusters smaller than a page, are copied into private, zero-filled pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.core.errors import ServerFault
from callgate.kernel.core.guest import Guest
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.objects import FileObject, FilesState, keeping
from callgate.kernel.file_data.spans import Part, Span
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.tasks.shares import Shares

Extents = list[tuple[bool, int, int]]  # whether it is on the disk, first sector within its first block, sectors
Pieces = list[
    tuple[Sequence[int], int, int]
]  # frames of its blocks, none for zeros; first sector within the first, sectors


class FilePages:
    """Lays out spans, and puts their pages together."""

    def __init__(
        self, state: FilesState, guest: Guest, shares: Shares, letting_go: LettingGo, map_edges: Callable[[], bool]
    ) -> None:
        """`map_edges` says whether pages that hold other data as well are mapped instead of copied."""
        self.state = state
        self.guest = guest
        self.shares = shares
        self.memory = shares.memory
        self.letting_go = letting_go
        self.map_edges = map_edges

    def begin(self, file: FileObject, span: Span, start: int, covered: int, extents: Extents) -> bool:
        """Check that a reply answers the request; fix, at the first reply, where the file's pages begin.

        A span that begins within a page continues where a short reply ended, and takes over the beginning of that page
        from the span before.  If there is none (a first request in the middle of a file guesses where a page begins;
        the span before may have been released), the span begins with the next page, and readers of the bytes before
        ask for them again.  False if no bytes are left; BAD_REPLY if the reply does not cover the span's first byte.
        """
        covered = min(covered, bytes_of(extents))
        if not start <= span.position < start + covered:
            raise ServerFault(ErrorCode.BAD_REPLY, f"{covered} bytes from {start} do not cover {span.position}")
        if file.shift is None:
            file.shift = shift_of(start, extents)
        page = file.page_of(span.position)
        if file.page_start(page) != span.position and not self._absorb(file, span):
            end, span.position = span.end, file.page_start(page + 1)
            span.length = min(end, start + covered) - span.position
        return span.length > 0

    def lay_out(self, file: FileObject, span: Span, start: int, covered: int, pieces: Pieces) -> None:
        """Note the parts of each page of a span.

        The reply may begin before the request and end anywhere: bytes that were not requested are left out, and so is
        an incomplete last page, unless it is the only one or the file ends there.
        """
        assert file.shift is not None, "lay_out without begin"
        size = sum(sectors for _, _, sectors in pieces) * SECTOR_SIZE
        end = min(start + covered, start + size, span.end, file.size)
        if end < file.size:
            whole = file.page_start(file.page_of(end))
            end = whole if whole > span.position else end
        span.length = end - span.position
        span.first_page = file.page_of(span.position)
        pages: list[int | list[Part]] = [0] * (file.page_of(end - 1) - span.first_page + 1)
        begin, at = span.position, start
        if span.begun:
            pages[0] = [span.begun]
            begin += span.begun.size
        for frames, first, sectors in pieces:
            after = at + sectors * SECTOR_SIZE
            wanted, until = max(at, begin), min(after, end)
            if not frames:
                self._spread(file, wanted, until, 0, pages, span.first_page)
            base = at - first * SECTOR_SIZE  # where the first block begins, were all of it of the file
            low = high = 0  # blocks that are pages of the file as they are
            if frames and not (base + file.shift) % PAGE_SIZE:
                low = -(-(wanted - base) // PAGE_SIZE)
                high = max(low, (until - base) // PAGE_SIZE)
                page = file.page_of(base) - span.first_page
                pages[page + low : page + high] = frames[low:high]
            for index, frame in enumerate(frames):
                if not low <= index < high:
                    block = base + index * PAGE_SIZE
                    begins, ends = max(block, wanted), min(block + PAGE_SIZE, until)
                    self._spread(file, begins, ends, frame + begins - block, pages, span.first_page)
            at = after
        span.parts = pages

    def _absorb(self, file: FileObject, span: Span) -> bool:
        """Take over the beginning of the first page from the span that ends there; False if there is none.

        It becomes zeros or a private copy of the new span: a block of the cache or a page of the server is held by the
        span before, which may be released before the new one is complete.  With NO_MEMORY nothing is taken over.
        """
        start = file.page_start(file.page_of(span.position))
        before = file.covering(span.position - 1)
        if before is None or before.state is not SpanState.READY:
            return False
        size, within = span.position - start, (start + (file.shift or 0)) % PAGE_SIZE
        frame = before.frames[-1]
        if frame == self.memory.space.zeros:
            frame = 0
        elif frame not in before.private:
            with keeping(before):
                frame = self._copied(frame + within, within, size)
        else:
            before.private.remove(frame)
        if frame:
            span.private.append(frame)
        self.letting_go.mapping.unmap(file, before)
        before.frames.pop()
        before.whole.pop()
        span.begun = Part(frame + within if frame else 0, within, size)
        before.length -= size
        span.position, span.length = start, span.length + size
        if before.length <= 0:
            self.letting_go.drop(file, before)
        return True

    def _copied(self, source: int, offset: int, size: int) -> int:
        """Return a new frame of low memory: zeros, and `size` bytes from `source` at `offset`; NO_MEMORY."""
        frame = self.shares.frame_for_files()
        self.memory.tables.clear(frame)
        ram = self.guest.ram
        ram.write(frame + offset, ram.read(source, size, Account.KERNEL))
        return frame

    def give_back(self, file: FileObject, span: Span) -> Span | None:
        """Return a new span of the bytes that a failed span has taken over by `_absorb`; None if it has none."""
        if span.begun is None or file.error is not ErrorCode.OK:
            return None
        before = Span(0, span.position, span.begun.size, SpanState.READY, first_page=file.page_of(span.position))
        before.whole = [False]
        if span.begun.source:
            frame = span.begun.source & -PAGE_SIZE
            span.private.remove(frame)
            before.private = [frame]
            before.frames = [frame]
        else:
            before.frames = [self.memory.zero_frame()]
        return before

    def _spread(
        self, file: FileObject, low: int, high: int, source: int, pages: list[int | list[Part]], first_page: int
    ) -> None:
        """Note bytes `low` to `high` of the file, which lie at `source` (0 for zeros), with their pages."""
        while low < high:
            within = (low + (file.shift or 0)) % PAGE_SIZE
            size = min(high - low, PAGE_SIZE - within)
            page = file.page_of(low) - first_page
            parts = pages[page]
            if not isinstance(parts, list):
                parts = pages[page] = []
            parts.append(Part(source, within, size))
            low += size
            source += size if source else 0

    def make(self, span: Span, parts: list[Part]) -> int:
        """Return the frame of a page of the file that has parts: a block of the cache, or a copy; NO_MEMORY."""
        if all(part.source == 0 for part in parts):
            return self.memory.zero_frame()
        if self.map_edges() and len(parts) == 1 and parts[0].source % PAGE_SIZE == parts[0].offset:
            return parts[0].source & -PAGE_SIZE
        frame = self.shares.frame_for_files()
        self.memory.tables.clear(frame)
        span.private.append(frame)
        ram = self.guest.ram
        for part in parts:
            if part.source:
                ram.write(frame + part.offset, ram.read(part.source, part.size, Account.KERNEL))
        self.state.counters.copied_pages += 1
        return frame


def bytes_of(extents: Extents) -> int:
    """Return how many bytes the extents have, which may be fewer than the server says they cover."""
    return sum(sectors for _, _, sectors in extents) * SECTOR_SIZE


def shift_of(start: int, extents: Extents) -> int:
    """Return how many bytes after a page boundary byte 0 of a file lies, so that most of its blocks are whole pages.

    The first piece on the disk that reaches to the end of its block decides; if none does, the first on the disk.
    """
    at, fallback = start, 0
    for on_disk, first, sectors in extents:
        if on_disk:
            shift = (first * SECTOR_SIZE - at) % PAGE_SIZE
            if not (first + sectors) % SECTORS_PER_PAGE:
                return shift
            fallback = fallback or shift
        at += sectors * SECTOR_SIZE
    return fallback
