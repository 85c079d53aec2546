"""Directory pages in the one layout that every file-system server produces (docs/design.md, "Directories").

A locked directory is a run of pages that the server built in its own memory and that clients read,
mapped read-only, without a system call.  Each page starts with a `DirectoryPage` header, then whole
`DirectoryEntry` records; no record crosses a page.  Names are UTF-8, not terminated, and follow the
fixed part; records are multiples of 8 bytes.  `build_pages` and `read_pages` are the layout in Python.
"""

from collections.abc import Iterable, Iterator
from ctypes import c_int64, c_uint16, c_uint32, c_uint64
from enum import IntFlag
from typing import Final, NamedTuple

from callgate.kernel.abi.layout import Layout, size_of
from callgate.kernel.abi.memory import PAGE_SIZE


class DirectoryPage(Layout):
    """Header of a directory page."""

    _fields_ = [
        ("entries", c_uint32),
        ("used", c_uint32),
        ("version", c_uint32),
        ("reserved", c_uint32),
    ]
    _notes_ = {"entries": "records in this page", "used": "bytes used, this header included"}


class DirectoryEntry(Layout):
    """One entry; the name follows."""

    _fields_ = [
        ("length", c_uint16),
        ("name_length", c_uint16),
        ("attributes", c_uint32),
        ("size", c_uint64),
        ("modified", c_int64),
        ("identifier", c_uint64),
    ]
    _notes_ = {
        "length": "bytes of the whole record, a multiple of 8; the next one follows",
        "name_length": "bytes of the name, 1 to 1020",
        "attributes": "FileAttributes",
        "size": "bytes; 0 for directories",
        "modified": "seconds since 1970-01-01 00:00, negative before, 0 if unknown; in the time zone recorded",
        "identifier": "the server's own number of the file, unique in the volume or 0",
    }


DIRECTORY_NAME_OFFSET: Final = size_of(DirectoryEntry)
DIRECTORY_NAME_LIMIT: Final = 1020
_HEADER: Final = size_of(DirectoryPage)
_ALIGNMENT: Final = 8


class FileAttributes(IntFlag):
    """Attributes of a file, in FAT's terms where FAT has them."""

    READ_ONLY = 0x01
    HIDDEN = 0x02
    SYSTEM = 0x04
    DIRECTORY = 0x10
    ARCHIVE = 0x20
    SYMLINK = 0x100
    EXECUTABLE = 0x200


class VolumeFlags(IntFlag):
    """The meaning of names on a volume, and its condition."""

    CASE_SENSITIVE = 1
    READ_ONLY = 2
    DIRTY = 4  # was not unmounted, or reported damage at start
    NO_FREE_SPACE = 8  # free space is not known
    NOT_ANSWERED = 16  # set by the kernel: the server has not answered in time


class NameSizeError(ValueError):
    """A name that no entry of a directory can hold."""


class ListedFile(NamedTuple):
    """One entry of a directory as clients see it: the name, and fields of `DirectoryEntry`."""

    name: str
    attributes: int
    size: int = 0
    modified: int = 0
    identifier: int = 0


def build_pages(files: Iterable[ListedFile], version: int) -> bytes:
    """Return directory pages for `files` in their order; an empty directory has one empty page.

    NameSizeError if a name takes none or more than DIRECTORY_NAME_LIMIT bytes of UTF-8.
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
        raise NameSizeError(f"name {file.name!r} takes {len(name)} bytes; 1 to {DIRECTORY_NAME_LIMIT} fit")
    length = -(-(DIRECTORY_NAME_OFFSET + len(name)) // _ALIGNMENT) * _ALIGNMENT
    fixed = DirectoryEntry(length, len(name), file.attributes, file.size, file.modified, file.identifier)
    return (bytes(fixed) + name).ljust(length, b"\0")


def _page(records: list[bytes], used: int, version: int) -> bytes:
    header = bytes(DirectoryPage(len(records), used, version, 0))
    return b"".join((header, *records)).ljust(PAGE_SIZE, b"\0")
