"""Names on FAT: 8.3 aliases and long-name entries (FAT specification 1.03, "FAT Long Directory Entries").

A name that is already an upper-case 8.3 name is stored as that alone; any other gets a unique alias and
entries that hold it in UTF-16.
"""

import struct
from collections.abc import Container

from callgate.disk.formatters.fat_layout import FormatError
from callgate.disk.formatters.names import check_characters

LONG_NAME_ATTRIBUTE = 0x0F
LAST_LONG_ENTRY = 0x40
UNITS_PER_ENTRY = 13
ALIAS_LIMIT = 999_999

_SHORT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$%'-_@~`!(){}^#&")
_LONG_ENTRY = struct.Struct("<B10sBBB12sH4s")


def check(name: str) -> None:
    """Refuse a name that FAT cannot hold; FormatError names the reason."""
    check_characters(name, "FAT")
    if not name or name[-1] in ". " or name[0] == " ":
        raise FormatError(f"{name!r}: FAT names do not end in a dot or space, nor start with a space; rename it")


def alias(name: str, taken: Container[bytes], numbers: dict[bytes, int]) -> bytes:
    """Return an 8.3 alias that is not in `taken` ("The Numeric-Tail Generation Algorithm").

    `numbers` belongs to the directory: the last tail given to each basis, so that thousands of like names
    do not each try all tails from 1.
    """
    base, extension, lossy = _basis(name)
    plain = base[:8].ljust(8) + extension
    if not lossy and len(base) <= 8 and plain not in taken:
        return plain
    for number in range(numbers.get(plain, 0) + 1, ALIAS_LIMIT + 1):
        tail = b"~%d" % number
        short = (base[: 8 - len(tail)] + tail).ljust(8) + extension
        if short not in taken:
            numbers[plain] = number
            return short
    raise FormatError(f"{name!r}: no 8.3 alias is left in its directory; spread the files over more directories")


def short_form(name: str) -> bytes | None:
    """Return the 11-byte short name if `name` is one as it stands, else None."""
    base, dot, extension = name.partition(".")
    try:
        first, second = base.encode("ascii"), extension.encode("ascii")
    except UnicodeEncodeError:
        return None
    if not 1 <= len(first) <= 8 or len(second) > 3 or (dot and not second):
        return None
    return first.ljust(8) + second.ljust(3) if _SHORT.issuperset(first + second) else None


def _basis(name: str) -> tuple[bytes, bytes, bool]:
    """Return (base, extension of 3, whether characters were lost) ("The Basis-Name Generation Algorithm")."""
    stripped = name.lstrip(". ")
    base, dot, extension = stripped.rpartition(".")
    if not dot:
        base, extension = stripped, ""
    lossy = stripped != name or len(extension) > 3
    first, lost_first = _short(base)
    second, lost_second = _short(extension)
    return first or b"_", second[:3].ljust(3), lossy or lost_first or lost_second or not first


def _short(text: str) -> tuple[bytes, bool]:
    """Return the text in the short name's characters, and whether that lost something beyond case."""
    result = bytearray()
    lossy = False
    for character in text:
        upper = character.upper() if character.isascii() else "\0"
        if character in " .":
            lossy = True
        elif ord(upper) in _SHORT:
            result.append(ord(upper))
        else:
            result += b"_"
            lossy = True
    return bytes(result), lossy


def checksum(short: bytes) -> int:
    """Return the checksum of a short name that ties long-name entries to it."""
    value = 0
    for byte in short:
        value = ((value & 1) << 7 | value >> 1) + byte & 0xFF
    return value


def long_entries(name: str, short: bytes) -> bytes:
    """Return the entries that hold a name in UTF-16 and belong to `short`, last part first, as on disk."""
    units = name.encode("utf-16-le")
    total = checksum(short)
    size = 2 * UNITS_PER_ENTRY
    count = -(-len(units) // size)
    padded = (units if len(units) % size == 0 else units + b"\0\0").ljust(count * size, b"\xff")
    entries = bytearray()
    for order in range(count, 0, -1):
        part = padded[(order - 1) * size : order * size]
        ordinal = order | (LAST_LONG_ENTRY if order == count else 0)
        entries += _LONG_ENTRY.pack(ordinal, part[:10], LONG_NAME_ATTRIBUTE, 0, total, part[10:22], 0, part[22:])
    return bytes(entries)
