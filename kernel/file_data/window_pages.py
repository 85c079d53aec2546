"""Windows on files: which pages of a file a window shows, and at which addresses."""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_WINDOW_BYTES
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.records import OpenFile, Process
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.spans import Span


def page_count(file: FileObject) -> int:
    """Return the pages of a window on a file: one more than its bytes need, for the shift."""
    return -(-min(max(file.size, 1), FILE_WINDOW_BYTES) // PAGE_SIZE) + 1


def opened_at(process: Process, page: int) -> OpenFile | None:
    """Return the open file whose FilePage a process has at an address, None if there is none."""
    return next((opened for opened in process.files.values() if opened.page == page), None)


def position_address(opened: OpenFile, file: FileObject, position: int) -> int:
    """Return the address at which a byte of the file lies, or would lie, in the process."""
    return opened.window + (file.shift or 0) + position - opened.position


def shows(opened: OpenFile, file: FileObject, position: int) -> bool:
    """Whether a byte of the file lies within the window."""
    return 0 <= position - opened.position < FILE_WINDOW_BYTES - (file.shift or 0)


def address_of(opened: OpenFile, span: Span, index: int) -> int:
    """Return the address of a page of a span in a window that shows it."""
    return opened.window - opened.position + (span.first_page + index) * PAGE_SIZE


def shown_pages(opened: OpenFile, file: FileObject, span: Span) -> range:
    """Return the indexes of a span's pages that a window shows."""
    first = span.first_page - opened.position // PAGE_SIZE
    low = max(0, -first)
    return range(low, max(low, min(len(span.frames), page_count(file) - first)))


def addresses_of(opened: OpenFile, file: FileObject, span: Span) -> range:
    """Return the addresses of a span's pages in a window."""
    shown = shown_pages(opened, file, span)
    begin = address_of(opened, span, shown.start)
    return range(begin, begin + len(shown) * PAGE_SIZE, PAGE_SIZE)


def opened_file(process: Process, handle: int) -> OpenFile:
    """Return the open file of a handle; BAD_HANDLE if the process has no such handle."""
    opened: OpenFile | None = process.files.get(handle)
    if opened is None:
        raise CallerError(ErrorCode.BAD_HANDLE)
    return opened
