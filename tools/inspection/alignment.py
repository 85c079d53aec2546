"""How a booted system would map a volume, and how much of it without copies, for `callgate disk inspect`.

Applies the rule of kernel/file_data/pages.py to every file: pages of a file that are whole blocks of the disk are
mapped, others are put together from copies when they are first read.
"""

from __future__ import annotations

from dataclasses import dataclass

from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.file_data.pages import shift_of
from callgate.tools.inspection.volume_walk import VolumeWalk
from callgate.tools.inspection.wording import counted

FILES_LIMIT = 5000
NO_FILES = FileAttributes.DIRECTORY | FileAttributes.SYMLINK  # links are counted at their targets
BYTES_LIMIT = 1 << 30  # of one file that are examined


@dataclass(slots=True)
class Alignment:
    """Files and pages of one volume.  `complete` is False if there were more files than were examined."""

    files: int = 0
    pages: int = 0
    mapped: int = 0
    copied: int = 0
    copied_bytes: int = 0
    holes: int = 0
    generated: int = 0  # pages that the server makes itself (compressed files)
    requests: int = 0  # to read every file once
    unreadable: int = 0
    complete: bool = True

    def describe(self) -> str:
        """Return it as a sentence."""
        text = self._pages() if self.pages else f"{counted(self.files, 'file')}, no file data"
        if self.unreadable:
            text += f"; {counted(self.unreadable, 'file')} cannot be read to the end"
        return text if self.complete else text + f"; only the first {FILES_LIMIT} files were looked at"

    def _pages(self) -> str:
        share = 100 * (self.mapped + self.holes) / self.pages
        text = f"{counted(self.files, 'file')}, {counted(self.pages, 'page')} of data: {share:.1f} % mapped as they are"
        if self.copied:
            text += f", {self.copied} put together from copies ({counted(self.copied_bytes, 'byte')})"
        if self.generated:
            text += f", {self.generated} made by the server in its own memory"
        return f"{text}; {counted(self.requests, 'request')} to read all"


def measure(walk: VolumeWalk, start: int) -> Alignment:
    """Examine every file of a mounted volume that begins at LBA `start`."""
    result = Alignment()
    for number, found in enumerate(walk.entries(FILES_LIMIT + 1)):
        if number == FILES_LIMIT:
            result.complete = False
            break
        if found.entry.attributes & NO_FILES:
            continue
        opened = walk.open(found.path)
        if opened is None:
            # Devices and the like have no data to lose.
            result.unreadable += walk.errors[-1][1] is not ErrorCode.NOT_SUPPORTED
            continue
        result.files += 1
        _file(walk, found.path, *opened, start, result)
        walk.close(opened[0])
    return result


def _file(walk: VolumeWalk, path: str, number: int, size: int, start: int, result: Alignment) -> None:
    """Count one file's pages."""
    position = 0
    end = min(size, BYTES_LIMIT)
    shift: int | None = None
    pages: dict[int, list[tuple[int | None, int]]] = {}  # page -> (place within the block, bytes)
    while position < end:
        reply = walk.read(path, number, position)
        if reply is None:
            result.unreadable += 1
            break
        begin, covered, answer = reply
        result.requests += 1
        if answer.call is ServerCall.REPLY_OBJECT:
            made = -(-min(covered, size - begin) // PAGE_SIZE)
            result.generated += made
            result.pages += made
        else:
            pieces = [(first, count) for first, count in answer.sectors]
            if shift is None:
                shift = shift_of(begin, [_piece(start, first, count) for first, count in pieces])
            _spread(pages, start, begin, min(begin + covered, size), shift, pieces)
        position = begin + covered
    for parts in pages.values():
        result.pages += 1
        if all(place is None for place, _ in parts):
            result.holes += 1
        elif parts == [(0, PAGE_SIZE)]:
            result.mapped += 1
        else:
            result.copied += 1
            result.copied_bytes += sum(count for place, count in parts if place is not None)


def _piece(start: int, first: int | None, count: int) -> tuple[bool, int, int]:
    """Return a piece as `shift_of` wants it: whether it is on the disk, first sector in its block, sectors."""
    return (False, 0, count) if first is None else (True, (start + first) % SECTORS_PER_PAGE, count)


def _spread(
    pages: dict[int, list[tuple[int | None, int]]],
    start: int,
    at: int,
    end: int,
    shift: int,
    pieces: list[tuple[int | None, int]],
) -> None:
    """Note which bytes each page of the file has, and where in their block these are."""
    for first, count in pieces:
        place = None if first is None else (start + first) % SECTORS_PER_PAGE * SECTOR_SIZE
        left = min(count * SECTOR_SIZE, end - at)
        while left > 0:
            page, within = divmod(at + shift, PAGE_SIZE)
            size = min(left, PAGE_SIZE - within)
            fits = place is not None and place == within
            pages.setdefault(page, []).append((within if fits else None if place is None else -1, size))
            at += size
            left -= size
            place = None if place is None else (place + size) % PAGE_SIZE
