"""Finding the central directory of an archive from its end (APPNOTE.TXT 6.3.10, 4.3.14 to 4.3.16).

An image is a whole number of sectors and an archive is not, so any number of zeros may follow the end record.
"""

from struct import Struct
from typing import Final, NamedTuple

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import SectorReader
from callgate.server.errors import MountError
from callgate.server.zip_archive.probe import (
    END,
    END64,
    END_RECORD,
    LOCAL,
    LOCATOR64,
    LOCATOR_RECORD,
    PART,
    SPLIT,
)

CENTRAL: Final = b"PK\1\2"
COMMENT_LIMIT: Final = 65535
PADDING_LIMIT: Final = 64 << 20  # zeros after the archive that are searched
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


async def find_central_directory(reader: SectorReader, sectors: int) -> CentralDirectory:
    """Return the last central directory that an end record describes; MountError if there is none."""
    end = await _end_of_data(reader, sectors)
    start = max(0, end - END_RECORD.size - COMMENT_LIMIT - LOCATOR_RECORD.size) // SECTOR_SIZE * SECTOR_SIZE
    last = min(sectors, -(-(end + END_RECORD.size) // SECTOR_SIZE))
    tail = await reader.read(start // SECTOR_SIZE, last - start // SECTOR_SIZE)
    complaint = ""
    at = tail.rfind(END)
    while at >= 0:
        try:
            if at + END_RECORD.size <= len(tail):
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
    _, disk, directory_disk, _, entries, size, offset, length = END_RECORD.unpack_from(tail, at)
    comment = tail[at + END_RECORD.size : at + END_RECORD.size + length]
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
    if at < LOCATOR_RECORD.size or tail[at - LOCATOR_RECORD.size :][:4] != LOCATOR64:
        return claim
    place = claim.place - LOCATOR_RECORD.size
    _, _, offset, _ = LOCATOR_RECORD.unpack_from(tail, at - LOCATOR_RECORD.size)
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
