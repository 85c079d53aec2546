"""Directory entries of exFAT volumes: names, sets, checksums, and the up-case table (exFAT specification, 6 and 7)."""

import struct
from datetime import UTC, datetime
from functools import cache

from callgate.disk.formatters.fat_layout import FormatError
from callgate.disk.formatters.names import check_characters

ENTRY = 32
NAME_UNITS = 15
LABEL_UNITS = 11
ATTRIBUTE_DIRECTORY, ATTRIBUTE_ARCHIVE = 0x10, 0x20
ALLOCATION_POSSIBLE, NO_FAT_CHAIN = 1, 2
UTC_OFFSET = 0x80  # "OffsetValid", 0 quarters of an hour (7.4.10)
START, END = (int(datetime(*date, tzinfo=UTC).timestamp()) for date in ((1980, 1, 1), (2107, 12, 31)))
SKIP = 0xFFFF  # in the up-case table: the next number says how many units stand for themselves


def check_name(name: str) -> None:
    """Refuse a name that exFAT cannot hold (7.7.3); FormatError says why."""
    check_characters(name, "exFAT")
    if not name:
        raise FormatError("'': exFAT has no empty names")


def upper(unit: int) -> int:
    """Return the UTF-16 unit that stands for another in upper case: itself if that is no single one."""
    if 0xD800 <= unit < 0xE000:
        return unit
    text = chr(unit).upper()
    return ord(text) if len(text) == 1 and ord(text) < 0x1_0000 else unit


@cache
def up_case_table() -> bytes:
    """Return the table in its compressed form (7.2.5): runs that stand for themselves are counted."""
    numbers: list[int] = []
    unit = 0
    while unit < 0x1_0000:
        run = unit
        while run < 0x1_0000 and upper(run) == run:
            run += 1
        # The first 128 units are written out on every volume (7.2.5.1).
        if run - unit > 2 and unit >= 128:
            numbers += [SKIP, run - unit]
            unit = run
        else:
            numbers.append(upper(unit))
            unit += 1
    return struct.pack(f"<{len(numbers)}H", *numbers)


def units_of(name: str) -> list[int]:
    """Return the UTF-16 units of a name."""
    raw = name.encode("utf-16-le")
    return list(struct.unpack(f"<{len(raw) // 2}H", raw))


def folded(name: str) -> tuple[int, ...]:
    """Return what two names have in common if a directory cannot hold both."""
    return tuple(map(upper, units_of(name)))


def name_hash(name: str) -> int:
    """Return NameHash (7.6.4)."""
    value = 0
    for byte in struct.pack(f"<{len(folded(name))}H", *folded(name)):
        value = ((value << 15 | value >> 1) & 0xFFFF) + byte & 0xFFFF
    return value


def set_checksum(entries: bytes) -> int:
    """Return SetChecksum (6.3.3)."""
    value = 0
    for index, byte in enumerate(entries):
        if index not in (2, 3):
            value = ((value << 15 | value >> 1) & 0xFFFF) + byte & 0xFFFF
    return value


def checksum32(data: bytes, skipped: tuple[int, ...] = ()) -> int:
    """Return the checksum of the boot region (3.4), without some bytes, or of the up-case table (7.2.2)."""
    value = 0
    for index, byte in enumerate(data):
        if index not in skipped:
            value = ((value << 31 | value >> 1) & 0xFFFF_FFFF) + byte & 0xFFFF_FFFF
    return value


def set_length(name: str) -> int:
    """Return the bytes of a file's entry set."""
    return ENTRY * (2 + -(-len(units_of(name)) // NAME_UNITS))


def entry_set(name: str, modified: int, cluster: int, size: int, *, directory: bool, consecutive: bool) -> bytes:
    """Return a file's set: the file entry, the stream extension and the name; `modified` in UTC."""
    when = datetime.fromtimestamp(min(max(modified, START), END), UTC)
    stamp = when.year - 1980 << 25 | when.month << 21 | when.day << 16
    stamp |= when.hour << 11 | when.minute << 5 | when.second // 2
    odd = when.second % 2 * 100
    units = units_of(name)
    pieces = [units[at : at + NAME_UNITS] for at in range(0, len(units), NAME_UNITS)]
    attributes = ATTRIBUTE_DIRECTORY if directory else ATTRIBUTE_ARCHIVE
    flags = ALLOCATION_POSSIBLE | (NO_FAT_CHAIN if consecutive and cluster else 0)
    file = struct.pack(
        "<BBHHHIIIBBBBB7x",
        *(0x85, 1 + len(pieces), 0, attributes, 0, stamp, stamp, stamp, odd, odd),
        *(UTC_OFFSET, UTC_OFFSET, UTC_OFFSET),
    )
    stream = struct.pack("<BBBBHHQIIQ", 0xC0, flags, 0, len(units), name_hash(name), 0, size, 0, cluster, size)
    names = b"".join(struct.pack(f"<BB{len(piece)}H", 0xC1, 0, *piece).ljust(ENTRY, b"\0") for piece in pieces)
    entries = bytearray(file + stream + names)
    struct.pack_into("<H", entries, 2, set_checksum(bytes(entries)))
    return bytes(entries)


def label_entry(label: str) -> bytes:
    """Return the entry of the volume label (7.3); FormatError if it is too long."""
    units = units_of(label)
    if len(units) > LABEL_UNITS:
        raise FormatError(f"label {label!r}: an exFAT label has at most {LABEL_UNITS} characters")
    return struct.pack(f"<BB{len(units)}H", 0x83, len(units), *units).ljust(ENTRY, b"\0")


def bitmap_entry(cluster: int, size: int) -> bytes:
    """Return the entry of the allocation bitmap (7.1)."""
    return struct.pack("<BB18xIQ", 0x81, 0, cluster, size)


def up_case_entry(cluster: int) -> bytes:
    """Return the entry of the up-case table (7.2)."""
    table = up_case_table()
    return struct.pack("<B3xI12xIQ", 0x82, checksum32(table), cluster, len(table))
