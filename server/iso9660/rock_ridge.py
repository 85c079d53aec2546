"""System use entries: names, links, modes and times of POSIX (SUSP 1.12 and RRIP 1.12, IEEE P1281 and P1282).

Entries follow a directory record's name, and continue elsewhere where a CE entry says so.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError
from callgate.server.formats.names import name_of_bytes, path_of_bytes
from callgate.server.iso9660.structures import Note, long_time, short_time

CONTINUATIONS_LIMIT: Final = 32  # areas of one record
AREA_LIMIT: Final = 32768  # bytes of one area
READS_LIMIT: Final = 4096  # continuation areas read for one directory; neighbours count once
WINDOW_SECTORS: Final = 64
TARGET_LIMIT: Final = 4096
SHARING: Final = (b"SP", 7, b"\xbe\xef")  # the first entry of the root's first record, SUSP 5.3
_CONTINUATION: Final = Struct("<I4xI4xI4x")
_CONTINUE, _CURRENT, _PARENT, _ROOT = 1, 2, 4, 8  # flags of NM and of the components of SL
_MODIFIED, _LONG = 0x02, 0x80  # flags of TF
_TIMES: Final = 7


@dataclass
class Posix:
    """The data of the entries of one record; ``target`` is None unless it is a symbolic link."""

    name: str = ""
    mode: int | None = None
    modified: int | None = None
    target: str | None = None
    child: int | None = None  # block of the directory that this record stands for (CL)
    relocated: bool = False  # it belongs elsewhere, where a CL names it (RE)
    compressed: bool = False  # zisofs


def sharing(system_use: bytes) -> int | None:
    """Return how many bytes to skip in every system use area if the volume uses SUSP, else None."""
    signature, length, check = SHARING
    if system_use[:2] == signature and system_use[2:3] == bytes([length]) and system_use[4:6] == check:
        return system_use[6]
    return None


class SystemUse:
    """Reads the entries of the records of one directory, and remembers where the last continuation area was."""

    def __init__(self, reader: SectorReader, block_bytes: int, sectors: int, skip: int) -> None:
        self.reader = reader
        self.block_bytes = block_bytes
        self.sectors = sectors
        self.skip = skip
        self._reads = 0
        self._window = (0, b"")  # first sector and data of the last read

    async def entries(self, area: bytes, note: Note) -> list[tuple[bytes, bytes]]:
        """Return (signature, data after the version) of all entries, continuation areas included."""
        found: list[tuple[bytes, bytes]] = []
        seen: set[tuple[int, int]] = set()
        while True:
            following = _split(area, found, note)
            if following is None:
                return found
            if following[:2] in seen or len(seen) >= CONTINUATIONS_LIMIT:
                note("its continuation areas do not end")
                return found
            seen.add(following[:2])
            try:
                area = await self._area(*following)
            except FileSystemError as error:
                note(f"its continuation area in block {following[0]} cannot be read: {error.text}")
                return found

    async def posix(self, system_use: bytes, note: Note) -> Posix:
        """Return the combined data of the entries of a record."""
        result = Posix()
        name: list[bytes] = []
        target = _Target()
        for signature, data in await self.entries(system_use[self.skip :], note):
            match signature:
                case b"NM" if data and not data[0] & (_CURRENT | _PARENT):
                    name.append(data[1:])
                case b"PX" if len(data) >= 8:
                    result.mode = int.from_bytes(data[:4], "little")
                case b"TF" if data:
                    result.modified = _modified(data)
                case b"SL" if data:
                    target.add(data[1:])
                case b"CL" if len(data) >= 4:
                    result.child = int.from_bytes(data[:4], "little")
                case b"RE":
                    result.relocated = True
                case b"ZF":
                    result.compressed = True
        result.name = name_of_bytes(b"".join(name))
        result.target = target.text(note)
        return result

    async def _area(self, block: int, offset: int, length: int) -> bytes:
        start = block * self.block_bytes + offset
        end = start + min(length, AREA_LIMIT)
        first, data = self._window
        if not first * SECTOR_SIZE <= start <= end <= first * SECTOR_SIZE + len(data):
            if self._reads >= READS_LIMIT:
                raise FileSystemError(ErrorCode.CORRUPT, f"more than {READS_LIMIT} of them in one directory")
            self._reads += 1
            first = start // SECTOR_SIZE
            last = max(-(-end // SECTOR_SIZE), min(first + WINDOW_SECTORS, self.sectors))
            data = await self.reader.read(first, last - first)
            self._window = (first, data)
        return data[start - first * SECTOR_SIZE : end - first * SECTOR_SIZE]


def _split(area: bytes, found: list[tuple[bytes, bytes]], note: Note) -> tuple[int, int, int] | None:
    """Append the entries of one area; return block, offset and length of the next area, if there is one."""
    following = None
    at = 0
    while at + 4 <= len(area) and area[at]:
        signature, length = area[at : at + 2], area[at + 2]
        if length < 4 or at + length > len(area):
            note(f"its system use entry {signature!r} has {length} bytes")
            break
        data = area[at + 4 : at + length]
        at += length
        if signature == b"ST":
            break
        if signature == b"CE" and len(data) >= _CONTINUATION.size:
            following = _CONTINUATION.unpack_from(data)
        else:
            found.append((signature, data))
    return following


def _modified(data: bytes) -> int | None:
    """Return the time of modification of a TF entry: times stand in the order of their flags."""
    if not data[0] & _MODIFIED:
        return None
    size = 17 if data[0] & _LONG else _TIMES
    start = 1 + size * (data[0] & 1)
    raw = data[start : start + size]
    return long_time(raw) if data[0] & _LONG else short_time(raw)


class _Target:
    """The target of a symbolic link, put together from the components of its SL entries."""

    def __init__(self) -> None:
        self.found = False
        self.parts: list[bytes] = []
        self.open = False  # the last component continues

    def add(self, data: bytes) -> None:
        self.found = True
        at = 0
        while at + 2 <= len(data):
            flags, length = data[at], data[at + 1]
            content: bytes | None = data[at + 2 : at + 2 + length]
            at += 2 + length
            if flags & _ROOT:
                self.parts = [b""]
                content = None
            elif flags & (_CURRENT | _PARENT):
                content = b".." if flags & _PARENT else b"."
            if content is not None and self.open:
                self.parts[-1] += content
            elif content is not None:
                self.parts.append(content)
            self.open = bool(flags & _CONTINUE) and content is not None

    def text(self, note: Note) -> str | None:
        if not self.found:
            return None
        raw = b"/".join(self.parts) or b"/"
        if len(raw) > TARGET_LIMIT:
            note(f"its link target has {len(raw)} bytes, of which {TARGET_LIMIT} are used")
        return path_of_bytes(raw[:TARGET_LIMIT])
