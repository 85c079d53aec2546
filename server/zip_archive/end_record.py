"""Finding the central directory of an archive from its end (APPNOTE.TXT 6.3.10, 4.3.14 to 4.3.16).

An image is a whole number of sectors and an archive is not, so any number of zeros may follow the end record.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import SectorReader
from callgate.server.errors import MountError

END: Final = b"PK\5\6"
END64: Final = b"PK\6\6"
LOCATOR64: Final = b"PK\6\7"
LOCAL: Final = b"PK\3\4"
CENTRAL: Final = b"PK\1\2"
PART: Final = b"PK\7\x08"  # what the first part of several begins with, before a local header (8.5.4)
_PROGRAMS: Final = (b"#!", b"MZ", b"\x7fELF")  # that read the archive which follows them
ONE_PART: Final = b"PK00"  # the same where only one part was needed after all (8.5.5)
SPLIT: Final = "a part of a split ZIP archive; join the parts (zip -s 0 in.zip --out out.zip)"
COMMENT_LIMIT: Final = 65535
PADDING_LIMIT: Final = 64 << 20  # zeros after the archive that are searched
_VERSION_LIMIT, _METHOD_LIMIT, _NAME_LIMIT = 63, 99, 4096  # 4.4.3, 4.4.5; names that paths can hold are shorter
_LOCAL: Final = Struct("<4s3H16xH2x")  # signature, version needed, flags, method, length of the name
_END: Final = Struct("<4s4H2IH")
_LOCATOR: Final = Struct("<4sIQI")
_END64: Final = Struct("<4sQ2H2I4Q")
_STEP: Final = 1024  # sectors


class CentralDirectory(NamedTuple):
    """Where the central directory is, in bytes of the image; offsets in it count from ``base``."""

    base: int
    offset: int
    size: int
    entries: int
    comment: bytes


class _Claim(NamedTuple):
    """The data of an end record, and its offset."""

    place: int
    disks: tuple[int, int]
    entries: int
    size: int
    offset: int


def probe(first: bytes) -> str | None:
    """Return ``zip`` if an image that begins with ``first`` is an archive; mounting finds out whether it is whole.

    A program that extracts itself is one if its first entry begins in ``first``, and else by its end.
    """
    if first[:4] in (LOCAL, END, END64) or first[:8] in (PART + LOCAL, ONE_PART + LOCAL):
        return "zip"
    return "zip" if first.startswith(_PROGRAMS) and _has_entry(first) else None


def _has_entry(first: bytes) -> bool:
    """Whether a local header is in ``first``; programs that read archives have its signature alone (4.3.7)."""
    at = first.find(LOCAL)
    while 0 <= at <= len(first) - _LOCAL.size:
        _, version, _, method, name_length = _LOCAL.unpack_from(first, at)
        if version <= _VERSION_LIMIT and method <= _METHOD_LIMIT and 0 < name_length <= _NAME_LIMIT:
            return True
        at = first.find(LOCAL, at + 1)
    return False


def probe_end(last: bytes) -> str | None:
    """Return ``zip`` if an image that ends with ``last`` ends with an archive, whatever stands before it.

    Programs that extract themselves and signed packages have a prefix of any length.
    """
    return "zip" if any(disk == 0 for disk, _, _ in _end_records(last)) else None


def explain(last: bytes) -> str | None:
    """Return a description if ``last`` ends the last part of a split archive, which cannot be seen at its beginning.

    The parts between the first and the last cannot be recognised.
    """
    return SPLIT if any(disk > 0 and here <= entries for disk, here, entries in _end_records(last)) else None


def _end_records(last: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (number of this part, entries in it, entries in all) of each end record that ``last`` may end with.

    After the record and its comment there are only zeros.
    """
    used = len(last.rstrip(b"\0"))
    at = last.rfind(END, 0, used)
    while at >= 0:
        if at + _END.size <= len(last):
            _, disk, _, here, entries, _, _, length = _END.unpack_from(last, at)
            locator = last[max(0, at - _LOCATOR.size) : at]
            if disk == 0xFFFF and locator.startswith(LOCATOR64) and len(locator) == _LOCATOR.size:
                disk = _LOCATOR.unpack(locator)[3] - 1
            if used <= at + _END.size + length <= len(last):
                yield disk, here, entries
        at = last.rfind(END, 0, at)


async def find_central_directory(reader: SectorReader, sectors: int) -> CentralDirectory:
    """Return the last central directory that an end record describes; MountError if there is none."""
    end = await _end_of_data(reader, sectors)
    start = max(0, end - _END.size - COMMENT_LIMIT - _LOCATOR.size) // SECTOR_SIZE * SECTOR_SIZE
    last = min(sectors, -(-(end + _END.size) // SECTOR_SIZE))
    tail = await reader.read(start // SECTOR_SIZE, last - start // SECTOR_SIZE)
    complaint = ""
    at = tail.rfind(END)
    while at >= 0:
        try:
            if at + _END.size <= len(tail):
                return await _check(reader, sectors, tail, at, start)
        except MountError as error:
            complaint = error.text
        at = tail.rfind(END, 0, at)
    raise MountError(complaint or await _without_end(reader))


async def _without_end(reader: SectorReader) -> str:
    """Return a description of an image without an end record."""
    if (await reader.read(0, 1)).startswith(PART + LOCAL):
        return SPLIT
    return "no end of central directory record in the last 64 KiB: the archive is cut off, or none"


async def _end_of_data(reader: SectorReader, sectors: int) -> int:
    """Return the position after the last byte that is not zero."""
    last = sectors
    while last > 0 and (sectors - last) * SECTOR_SIZE < PADDING_LIMIT:
        first = max(0, last - _STEP)
        data = (await reader.read(first, last - first)).rstrip(b"\0")
        if data:
            return first * SECTOR_SIZE + len(data)
        last = first
    raise MountError(f"the last {(sectors - last) * SECTOR_SIZE} bytes are zeros: no end of an archive is found")


async def _check(reader: SectorReader, sectors: int, tail: bytes, at: int, start: int) -> CentralDirectory:
    """Return the directory that the end record at ``at`` of ``tail`` names, if it is there."""
    _, disk, directory_disk, _, entries, size, offset, length = _END.unpack_from(tail, at)
    comment = tail[at + _END.size : at + _END.size + length]
    claim = _Claim(start + at, (disk, directory_disk), entries, size, offset)
    if 0xFFFF in (entries, disk, directory_disk) or 0xFFFFFFFF in (size, offset):
        claim = await _large(reader, sectors, tail, at, claim)
    place = f"end record at byte {start + at}"
    if claim.disks != (0, 0):
        raise MountError(f"{place}: {SPLIT}")
    base = claim.place - claim.size - claim.offset
    if base < 0:
        raise MountError(f"{place}: a central directory of {claim.size} bytes at {claim.offset} does not fit before it")
    directory = CentralDirectory(base, base + claim.offset, claim.size, claim.entries, comment)
    if claim.size:
        first = directory.offset // SECTOR_SIZE
        head = await reader.read(first, min(2, sectors - first))
        if head[directory.offset % SECTOR_SIZE :][:4] != CENTRAL:
            raise MountError(f"{place}: no central directory at byte {directory.offset}, where it should be")
    return directory


async def _large(reader: SectorReader, sectors: int, tail: bytes, at: int, claim: _Claim) -> _Claim:
    """Return the data of the ZIP64 end record, if there is a locator; else the numbers are used as they are."""
    if at < _LOCATOR.size or tail[at - _LOCATOR.size :][:4] != LOCATOR64:
        return claim
    place = claim.place - _LOCATOR.size
    _, _, offset, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
    # Bytes before the archive shift it; the record then ends where the locator begins, unless it is extensible.
    for candidate in (offset, place - _END64.size):
        first = candidate // SECTOR_SIZE
        if not 0 <= candidate <= place - _END64.size or first >= sectors:
            continue
        data = (await reader.read(first, min(2, sectors - first)))[candidate % SECTOR_SIZE :]
        if data[:4] == END64 and len(data) >= _END64.size:
            _, _, _, _, disk, directory_disk, _, entries, size, where = _END64.unpack_from(data)
            return _Claim(candidate, (disk, directory_disk), entries, size, where)
    raise MountError(f"locator at byte {place}: no ZIP64 end record at {offset}")
