"""Entries of the central directory (APPNOTE.TXT 4.3.12), their extra fields, and the names that paths can hold."""

import zlib
from contextlib import suppress
from struct import Struct
from typing import Final, NamedTuple

from callgate.kernel.abi.directory import FileAttributes
from callgate.server.formats.dos_times import timestamp
from callgate.server.zip_archive.end_record import CENTRAL

STORED, DEFLATED = 0, 8  # methods, 4.4.5
ENCRYPTED, UTF8 = 0x0001, 0x0800  # flags, 4.4.4
METHODS: Final = {
    1: "shrunk",
    6: "imploded",
    9: "deflate64",
    12: "bzip2",
    14: "LZMA",
    19: "LZ77",
    93: "Zstandard",
    94: "MP3",
    95: "XZ",
    96: "JPEG",
    97: "WavPack",
    98: "PPMd",
    99: "AES encryption",
}
_UNIX: Final = 3
_UNIX_LIKE: Final = (_UNIX, 19)  # and OS X
_FORMAT, _FOLDER, _LINK, _EXECUTE = 0o170000, 0o040000, 0o120000, 0o111  # of a mode
_LARGE, _TIMESTAMP, _UNICODE_PATH = 0x0001, 0x5455, 0x7075  # extra fields
_HEADER: Final = Struct("<4s6H3I5H2I")
_LIMIT32: Final = 0xFFFFFFFF


class ZipEntry(NamedTuple):
    """A file or directory as the central directory describes it; immutable."""

    number: int  # from 1, in the order of the central directory
    name: str  # with "surrogateescape" where it is not the UTF-8 that it should be
    flags: int
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int
    offset: int  # of the local header, from the archive's first byte
    modified: int  # seconds since 1970, negative before
    attributes: FileAttributes

    def refusal(self) -> str:
        """Return why the entry cannot be opened, or nothing."""
        if self.flags & ENCRYPTED or self.method == 99:
            return "it is encrypted"
        if self.method in (STORED, DEFLATED):
            return ""
        name = METHODS.get(self.method)
        return f"its compression method {self.method}{f' ({name})' if name else ''} is not known here"


def parse_entry(data: bytes, at: int, number: int) -> tuple[ZipEntry, int] | None:
    """Return the entry at ``at`` of the central directory and where the next one is; None if none is there."""
    if at + _HEADER.size > len(data) or data[at : at + 4] != CENTRAL:
        return None
    (_, made, _, flags, method, time, date, crc, packed, size, name_length, extra_length, comment_length, _, _,
     external, offset) = _HEADER.unpack_from(data, at)  # fmt: skip
    name_end = at + _HEADER.size + name_length
    following = name_end + extra_length + comment_length
    if following > len(data):
        return None
    raw = data[at + _HEADER.size : name_end]
    extra = _extra_fields(data[name_end : name_end + extra_length])
    size, packed, offset = _large(extra.get(_LARGE, b""), size, packed, offset)
    name = _name(raw, flags, made >> 8, extra.get(_UNICODE_PATH, b""))
    stamp = extra.get(_TIMESTAMP, b"")
    # The extended timestamp is a time_t of 32 bits with a sign (proginfo/extrafld.txt of Info-ZIP).
    has_stamp = len(stamp) >= 5 and stamp[0] & 1
    modified = int.from_bytes(stamp[1:5], "little", signed=True) if has_stamp else timestamp(date, time)
    attributes = _attributes(name, made >> 8, external)
    return ZipEntry(number, name, flags, method, crc, packed, size, offset, modified, attributes), following


def _extra_fields(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, length = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
        fields.setdefault(kind, data[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def _large(field: bytes, *values: int) -> list[int]:
    """Return the numbers with those that do not fit in 32 bits taken from the ZIP64 field, in its order (4.5.3)."""
    result = []
    for value in values:
        if value == _LIMIT32 and len(field) >= 8:
            result.append(int.from_bytes(field[:8], "little"))
            field = field[8:]
        else:
            result.append(value)
    return result


def _name(raw: bytes, flags: int, system: int, unicode_path: bytes) -> str:
    """Return a name; zip 3.0 on Unix writes UTF-8 without saying so, and other names are in code page 437."""
    if flags & UTF8:
        return raw.decode("utf-8", "surrogateescape")
    if len(unicode_path) > 5 and int.from_bytes(unicode_path[1:5], "little") == zlib.crc32(raw):
        return unicode_path[5:].decode("utf-8", "surrogateescape")
    if system in _UNIX_LIKE:
        with suppress(UnicodeDecodeError):
            return raw.decode("utf-8")
    return raw.decode("cp437")


def _attributes(name: str, system: int, external: int) -> FileAttributes:
    attributes = FileAttributes.READ_ONLY | FileAttributes(external & 0x06)  # hidden, system
    mode = external >> 16 if system in _UNIX_LIKE else 0
    if name.endswith(("/", "\\")) or external & FileAttributes.DIRECTORY or mode & _FORMAT == _FOLDER:
        return attributes | FileAttributes.DIRECTORY
    if mode & _FORMAT == _LINK:
        attributes |= FileAttributes.SYMLINK
    elif mode & _EXECUTE:
        attributes |= FileAttributes.EXECUTABLE
    return attributes
