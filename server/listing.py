"""Directory pages in the one layout that clients read (abi/directory.py): building and reading them."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from callgate.kernel.abi.directory import (
    DIRECTORY_NAME_LIMIT,
    DIRECTORY_NAME_OFFSET,
    DirectoryEntry,
    DirectoryPage,
)
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.errors import ReplyError

_HEADER: Final = size_of(DirectoryPage)
_ALIGNMENT: Final = 8


class ListedFile(NamedTuple):
    """One entry of a directory as clients see it: the fields of `DirectoryEntry`."""

    name: str
    attributes: int
    size: int = 0
    modified: int = 0
    identifier: int = 0


def build_pages(files: Iterable[ListedFile], version: int) -> bytes:
    """Return directory pages for ``files`` in their order; an empty directory has one empty page.

    ReplyError if a name takes none or more than DIRECTORY_NAME_LIMIT bytes of UTF-8.
    """
    pages: list[bytes] = []
    records: list[bytes] = []
    used = _HEADER
    for file in files:
        record = _record(file)
        if used + len(record) > PAGE_SIZE:
            pages.append(_page(records, used, version))
            records, used = [], _HEADER
        records.append(record)
        used += len(record)
    pages.append(_page(records, used, version))
    return b"".join(pages)


def fitting_pages(files: Iterable[ListedFile], version: int) -> tuple[bytes, int]:
    """Return directory pages with as many of the files as one object reply carries, and how many these are.

    All, but of the very largest directories; what is left out can still be opened by name.
    """
    data = build_pages(files, version)[: MESSAGE_ADDRESSES * PAGE_SIZE]
    pages = range(0, len(data), PAGE_SIZE)
    return data, sum(DirectoryPage.from_buffer_copy(data, page).entries for page in pages)


def read_pages(pages: bytes) -> Iterator[ListedFile]:
    """Yield the entries of directory pages, as a client does."""
    for page in range(0, len(pages), PAGE_SIZE):
        header = DirectoryPage.from_buffer_copy(pages, page)
        offset = page + _HEADER
        for _ in range(header.entries):
            entry = DirectoryEntry.from_buffer_copy(pages, offset)
            name = pages[offset + DIRECTORY_NAME_OFFSET :][: entry.name_length].decode("utf-8")
            yield ListedFile(name, entry.attributes, entry.size, entry.modified, entry.identifier)
            offset += entry.length


def _record(file: ListedFile) -> bytes:
    name = file.name.encode("utf-8")
    if not 0 < len(name) <= DIRECTORY_NAME_LIMIT:
        raise ReplyError(f"name {file.name!r} takes {len(name)} bytes; 1 to {DIRECTORY_NAME_LIMIT} fit")
    length = -(-(DIRECTORY_NAME_OFFSET + len(name)) // _ALIGNMENT) * _ALIGNMENT
    fixed = DirectoryEntry(length, len(name), file.attributes, file.size, file.modified, file.identifier)
    return (bytes(fixed) + name).ljust(length, b"\0")


def _page(records: list[bytes], used: int, version: int) -> bytes:
    header = bytes(DirectoryPage(len(records), used, version, 0))
    return b"".join((header, *records)).ljust(PAGE_SIZE, b"\0")
