"""Files: the page of a file object, which every process that has the file open may read, and records of spans.

One page for the whole system, written by the kernel only, mapped read-only into each process that has the
file open.  A reader takes `sequence`, reads, and takes it again: if it was odd or has changed, the data read may be
inconsistent.
"""

from ctypes import c_uint32, c_uint64
from enum import IntEnum, IntFlag
from typing import Final

from callgate.kernel.abi.layout import Layout, size_of
from callgate.kernel.abi.limits import SPANS
from callgate.kernel.abi.memory import PAGE_SIZE


class OpenFlags(IntFlag):
    """The uses for which a program opens a file."""

    FROM_START = 2  # read from its beginning: the first data come with the answer, and CLOSE need not be sent at once
    WRITE = 1  # whole pages of the disk are mapped writable; refused unless the machine is a scratch one


class FileArea(Layout):
    """A range of the file whose data is in memory."""

    _fields_ = [
        ("position", c_uint64),
        ("length", c_uint32),
        ("reserved", c_uint32),
    ]
    _notes_ = {"position": "byte of the file", "length": "bytes"}


FILE_AREAS: Final = 250


class FilePage(Layout):
    """A file object as processes see it."""

    _fields_ = [
        ("sequence", c_uint32),
        ("valid", c_uint32),
        ("generation", c_uint32),
        ("error", c_uint32),
        ("size", c_uint64),
        ("attributes", c_uint32),
        ("shift", c_uint32),
        ("count", c_uint32),
        ("reserved", c_uint32 * 11),
        ("none", FileArea),
        ("areas", FileArea * FILE_AREAS),
    ]
    _notes_ = {
        "sequence": "odd while the kernel changes the page; even and different afterwards",
        "valid": "1, or 0 for ever once the disk or the server has gone",
        "generation": "number of this file object; no other ever has the same",
        "error": "ErrorCode that says why it is not valid",
        "size": "bytes",
        "attributes": "FileAttributes",
        "shift": "byte 0 of the file lies this many bytes after a page boundary, as its data does on the disk",
        "count": "areas in use",
        "none": "always zeros: an empty area before all others, where bisection ends if none begins early enough",
        "areas": "sorted by position, none overlaps another; those after the last are all ones; "
        "if all are in use, more may be in memory than is listed",
    }


assert size_of(FilePage) <= PAGE_SIZE
FILE_SEQUENCE_NONE: Final = 0xFFFF_FFFF  # no FilePage has it at rest
FILE_WINDOW_BYTES: Final = 64 << 20  # most bytes of a file that one window shows


class SpanState(IntEnum):
    """The life of a span, the run of a file's bytes that one READ asks for."""

    FREE = 0  # the record is no span's
    WAITING = 1  # posted to the server, or the disk has still to bring data
    READY = 2
    FAILED = 3


class SpanRecord(Layout):
    """A span in its endpoint's array (`Endpoint.span_pages`); kernel only.  The index is the span's handle."""

    _fields_ = [
        ("state", c_uint32),
        ("token", c_uint32),
        ("position", c_uint64),
        ("count", c_uint32),
        ("remaining", c_uint32),
        ("reserved", c_uint32 * 2),
    ]
    _notes_ = {
        "state": "SpanState",
        "token": "number of the span, and of its READ in Endpoint.tokens; no other span ever has it",
        "position": "first byte of the file",
        "count": "bytes: as many as were asked for; READY: as many as are there",
        "remaining": "entries of its SectorList whose data has not arrived; changed by locked instructions",
    }


SPANS_OF_PAGE: Final = PAGE_SIZE // size_of(SpanRecord)
SPAN_PAGES: Final = SPANS // SPANS_OF_PAGE  # of an endpoint's array: it has room for every span that there may be
assert SPANS_OF_PAGE * size_of(SpanRecord) == PAGE_SIZE
assert SPAN_PAGES * SPANS_OF_PAGE == SPANS
