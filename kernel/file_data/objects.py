"""File objects: one for each open file, shared by all processes that have it open, with its spans.

A span is the run of a file's bytes that one READ asks for, in flight or in memory.  The spans of a file are sorted by
position and never overlap; readers of the same bytes share one.  A file's bytes lie in memory as they
lie on the disk: byte 0 is `shift` bytes after a page boundary, so that whole blocks of the disk are whole pages
of the file, wherever on the disk the file begins.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_AREAS, FilePage
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.core.errors import error_of_code
from callgate.kernel.file_data.spans import Span
from callgate.kernel.machine.memory.ram import Ram

AREA = struct.Struct("<QII")
AREAS = offset_of(FilePage, "areas")
AREA_LIMIT = 0xFFFF_FFFF  # most bytes of an area


@record
class FileObject:
    """An open file."""

    number: int
    endpoint: int
    server_file: int
    identity: int
    size: int
    attributes: int
    frame: int  # of its FilePage
    opens: int = 0
    brief: bool = False  # its CLOSE may be put off: it was opened FROM_START, as by programs that open many in turn
    shift: int | None = None  # known with the first data
    spans: list[Span] = field(default_factory=list)  # sorted by position
    error: ErrorCode = ErrorCode.OK  # OK while it is valid

    def covering(self, position: int) -> Span | None:
        """Return the span that `position` lies in, None if there is none."""
        index = bisect_right(self.spans, position, key=start_of) - 1
        if index >= 0 and position < self.spans[index].end:
            return self.spans[index]
        return None

    def next_start(self, position: int) -> int:
        """Return the position of the first span that begins after `position`, or the end of the file."""
        index = bisect_right(self.spans, position, key=start_of)
        return self.spans[index].position if index < len(self.spans) else self.size

    def areas(self) -> list[tuple[int, int]]:
        """Return (position, length) of the ranges that are in memory; spans that join at a page are one.

        A range is at most `AREA_LIMIT` bytes long, and there are at most `FILE_AREAS`, as a FilePage has room for.
        """
        found: list[tuple[int, int]] = []
        for span in self.spans:
            there = span.there
            if there is None:
                continue
            start, size = there
            position, length = found[-1] if found else (0, 0)
            joins = position + length == start and start == self.page_start(self.page_of(start))
            if found and joins and length + size <= AREA_LIMIT:
                found[-1] = position, length + size
            elif len(found) < FILE_AREAS:
                found.append((start, size))
            else:
                break
        return found

    def insert(self, span: Span) -> None:
        """Add a span in the order of positions."""
        self.spans.insert(bisect_right(self.spans, span.position, key=start_of), span)

    def page_of(self, position: int) -> int:
        """Return the number of the page of the file in which a byte lies."""
        return (position + (self.shift or 0)) // PAGE_SIZE

    def page_start(self, page: int) -> int:
        """Return the first byte of the file in a page."""
        return max(0, page * PAGE_SIZE - (self.shift or 0))


@record(eq=True)
class Counters:
    """Counts of events of file data, for `--stats` and tests."""

    requests: int = 0  # READs posted
    ahead: int = 0  # of those, posted before any reader asked
    wasted: int = 0  # of those, released before they were mapped for a reader
    waits: int = 0  # readers that had to wait
    copied_pages: int = 0  # pages that were put together by copying


@record
class FilesState:
    """Records: file objects by number, and the spans in flight."""

    objects: dict[int, FileObject] = field(default_factory=dict)
    next_object: int = 1
    waiting: dict[int, tuple[int, Span]] = field(default_factory=dict)  # number -> (file number, span)
    next_number: int = 1
    blocks: int = 0  # spans of all files
    mapped: int = 0  # how often they are mapped: once for each window that shows one
    starved: list[int] = field(default_factory=list)  # selectors of threads that wait for memory (`Hunger`)
    counters: Counters = field(default_factory=Counters)

    def insert(self, file: FileObject, span: Span) -> None:
        """Add a span to a file."""
        file.insert(span)
        self.blocks += 1


def check_valid(file: FileObject) -> None:
    """Raise the error that made a file invalid, if there is one."""
    if file.error is not ErrorCode.OK:
        raise error_of_code(file.error)


@contextmanager
def keeping(span: Span) -> Iterator[None]:
    """Keep a span from being released while this lasts."""
    span.kept += 1
    try:
        yield
    finally:
        span.kept -= 1


def start_of(span: Span) -> int:
    """Sort key of spans."""
    return span.position


def publish(ram: Ram, file: FileObject) -> None:
    """Write a file object's page; `sequence` is odd during the writing, so that a reader reads again."""
    view = ram.view(file.frame, PAGE_SIZE)
    page = FilePage.from_buffer(view)
    page.sequence += 1
    areas = file.areas()
    page.valid = int(file.error is ErrorCode.OK)
    page.generation = file.number
    page.error = file.error
    page.size = file.size
    page.attributes = file.attributes
    page.shift = file.shift or 0
    page.count = len(areas)
    records = b"".join(AREA.pack(position, length, 0) for position, length in areas)
    view[AREAS:] = records.ljust(AREA.size * FILE_AREAS, b"\xff")
    page.sequence += 1


def sequence_of(ram: Ram, file: FileObject) -> int:
    """Return the `sequence` of a file object's page."""
    return int(FilePage.from_buffer(ram.view(file.frame, PAGE_SIZE)).sequence)


assert AREA.size * FILE_AREAS + AREAS == size_of(FilePage) == PAGE_SIZE
