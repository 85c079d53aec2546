"""Fields, descriptors and directory records of ISO 9660 (ECMA-119, 4th edition; Joliet specification).

Numbers are stored twice, little-endian and big-endian.  The little-endian one counts; where the two disagree, that
is noted for a report.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntFlag
from typing import Final, NamedTuple

from callgate.kernel.abi.disks.volumes import ISO_LOGICAL_SECTOR

SECTORS_PER_LOGICAL: Final = ISO_LOGICAL_SECTOR // 512
DESCRIPTORS_LIMIT: Final = 64
BLOCK_SIZES: Final = (512, 1024, 2048)  # 6.2.2: a power of two, no more than a logical sector
RECORD_FIXED: Final = 33  # bytes of a directory record before the identifier, 9.1

PRIMARY, SUPPLEMENTARY, TERMINATOR = 1, 2, 255  # descriptor types, 8.1.1
JOLIET_ESCAPES: Final = (b"%/@", b"%/C", b"%/E")  # UCS-2 levels 1 to 3

Note = Callable[[str], None]


class RecordFlags(IntFlag):
    """File flags of a directory record, 9.1.6."""

    HIDDEN = 0x01
    DIRECTORY = 0x02
    ASSOCIATED = 0x04
    MULTI_EXTENT = 0x80


class Extent(NamedTuple):
    """Consecutive blocks: first logical block and bytes of data in them."""

    block: int
    size: int


class Record(NamedTuple):
    """A directory record as it stands on the disk; ``place`` is its byte on the volume."""

    place: int
    identifier: bytes
    extent: Extent
    flags: RecordFlags
    modified: int  # seconds since 1970
    interleave: tuple[int, int]  # file unit size and gap size, (0, 0) = not interleaved
    system_use: bytes


def both(data: bytes, offset: int, size: int, note: Note, what: str) -> int:
    """Return a both-endian number of ``size`` bytes each way; ``note`` is called when the two disagree."""
    little = int.from_bytes(data[offset : offset + size], "little")
    big = int.from_bytes(data[offset + size : offset + 2 * size], "big")
    if little != big:
        note(f"{what} is {little} in little-endian and {big} in big-endian order")
    return little


def short_time(data: bytes) -> int:
    """Return the 7-byte time of 9.1.5 in seconds since 1970, UTC, negative before; 0 if it is none."""
    if len(data) < 7:
        return 0
    offset = data[6] - 256 if data[6] > 127 else data[6]
    return _seconds([1900 + data[0], *data[1:6]], offset)


def long_time(data: bytes) -> int:
    """Return the 17-byte time of 8.4.26.1 in seconds since 1970, UTC, negative before; 0 if it is none."""
    digits = data[:14]
    if len(data) < 17 or not digits.isdigit():
        return 0
    offset = data[16] - 256 if data[16] > 127 else data[16]
    parts = [int(digits[at : at + 2]) for at in range(4, 14, 2)]
    return _seconds([int(digits[:4]), *parts], offset)


def _seconds(parts: list[int], offset: int) -> int:
    """``parts`` are year to second; ``offset`` is east of Greenwich in quarters of an hour, -48 to 52."""
    year, month, day, hour, minute, second = parts
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC) - timedelta(minutes=15 * offset)
    except (ValueError, OverflowError):
        return 0
    return int(moment.timestamp())


def parse_record(data: bytes, offset: int, place: int, note: Note) -> Record | None:
    """Return the record at ``offset`` of a directory; None, and a note, if its length cannot be."""
    length = data[offset]
    name_length = data[offset + 32] if offset + RECORD_FIXED <= len(data) else 0
    if length < RECORD_FIXED + 1 or offset + length > len(data) or not 0 < name_length <= length - RECORD_FIXED:
        note(f"byte {place}: a record of {length} bytes with a name of {name_length}")
        return None
    raw = data[offset : offset + length]
    end = RECORD_FIXED + name_length

    def say(text: str) -> None:
        note(f"byte {place}: {text}")

    block = both(raw, 2, 4, say, "the extent's location") + raw[1]  # data follow the extended attribute record
    return Record(
        place,
        raw[RECORD_FIXED:end],
        Extent(block, both(raw, 10, 4, say, "the data length")),
        RecordFlags(raw[25]),
        short_time(raw[18:25]),
        (raw[26], raw[27]),
        raw[end + (end & 1) :],  # 9.1.12: a pad byte makes the system use field begin at an even offset
    )
