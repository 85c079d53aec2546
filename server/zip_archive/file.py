"""Contents of open files: sectors where possible, else windows of bytes that the server makes."""

import zlib
from typing import Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError
from callgate.server.pieces import Extract, cut, sectors_of
from callgate.server.zip_archive.end_record import CentralDirectory
from callgate.server.zip_archive.entry import STORED, ZipEntry
from callgate.server.zip_archive.probe import LOCAL
from callgate.server.zip_archive.restart import Point, RestartPoints

WINDOW_LIMIT: Final = MESSAGE_ADDRESSES * PAGE_SIZE  # bytes of one reply
JUMP_LIMIT: Final = 512 << 20  # bytes made and discarded to reach a position
INPUT_LIMIT: Final = 512 << 20  # bytes taken in for one reply
_INPUT: Final = 64 << 10  # bytes read of the disk at a time
_OUTPUT: Final = 256 << 10  # bytes made at a time
_LOCAL_HEADER: Final = 30


class Window(NamedTuple):
    """Bytes of a file from ``position``, the beginning of a page."""

    position: int
    data: bytes


class OpenFile:
    """An open entry: ``data`` is the byte of the image at which its data begin."""

    def __init__(self, entry: ZipEntry, data: int) -> None:
        self.entry = entry
        self.data = data
        self.checked = (0, 0)  # of a stored entry: this many bytes have this CRC-32

    @property
    def in_sectors(self) -> bool:
        """Whether the data are available as sectors of the image."""
        return self.entry.method == STORED and self.data % SECTOR_SIZE == 0

    def locate(self, position: int, wanted: int, start: int) -> Extract:
        """Return the sectors that hold ``wanted`` bytes from ``position``, as many as a reply carries."""
        first = position // SECTOR_SIZE
        end = min(position + wanted, self.entry.size)
        if end <= position:
            return Extract(first * SECTOR_SIZE, 0, [])
        count = min(-(-end // SECTOR_SIZE) - first, MESSAGE_ADDRESSES * SECTORS_PER_PAGE)
        entries = cut(start, self.data // SECTOR_SIZE + first, count)
        size = min(sectors_of(entries) * SECTOR_SIZE, self.entry.size - first * SECTOR_SIZE)
        return Extract(first * SECTOR_SIZE, size, entries)

    async def window(
        self, reader: SectorReader, points: RestartPoints, number: int, position: int, wanted: int
    ) -> Window:
        """Return the whole pages that hold ``wanted`` bytes from ``position``, at most WINDOW_LIMIT bytes.

        If only the first of them are available, they are returned, and a request for the rest has the error.
        """
        first = position // PAGE_SIZE * PAGE_SIZE
        end = min(-(-(position + wanted) // PAGE_SIZE) * PAGE_SIZE, first + WINDOW_LIMIT, self.entry.size)
        if position >= end:
            return Window(first, b"")
        if self.entry.method == STORED:
            return Window(first, await self._stored(reader, first, end))
        return Window(first, await _Inflation(self, reader, points, number).run(first, position, end))

    async def _stored(self, reader: SectorReader, first: int, end: int) -> bytes:
        data = await read_bytes(reader, self.data + first, end - first)
        done, crc = self.checked
        if done == first:
            self.checked = (end, zlib.crc32(data, crc))
            if end == self.entry.size:
                self.compare(self.checked[1])
        return data

    def compare(self, crc: int) -> None:
        """FileSystemError(CORRUPT) if this is not the CRC-32 that the entry should have."""
        if crc != self.entry.crc:
            raise self.damaged(f"its CRC-32 is {crc:#010x} and should be {self.entry.crc:#010x}")

    def damaged(self, why: str) -> FileSystemError:
        """Return the error that names the entry and the fault."""
        return FileSystemError(ErrorCode.CORRUPT, f"{self.entry.name}: {why}")


class _Inflation:
    """One way from a restart point to a window's end."""

    def __init__(self, file: OpenFile, reader: SectorReader, points: RestartPoints, number: int) -> None:
        self.file = file
        self.reader = reader
        self.points = points
        self.number = number

    async def run(self, first: int, position: int, end: int) -> bytes:
        """Return the bytes from ``first`` to ``end``; whole pages of them if ``position`` is in those."""
        entry = self.file.entry
        point = self.points.best(self.number, first)
        if first - point.position > JUMP_LIMIT:
            raise FileSystemError(
                ErrorCode.NO_RESOURCES,
                f"{entry.name}: byte {first} lies {first - point.position} bytes past the last place reached; at "
                f"most {JUMP_LIMIT} are decompressed to reach a position",
            )
        made: list[bytes] = []
        begun = point.fed
        try:
            while point.position < end:
                self.points.keep(self.number, entry.size, point, cursor=False)
                goal = first if point.position < first else end
                point, data = await self._step(point, min(goal - point.position, _OUTPUT))
                if point.fed - begun > INPUT_LIMIT:
                    raise self.file.damaged(f"more than {INPUT_LIMIT} bytes of input for one window")
                if point.position > first:
                    made.append(data)
            if end == entry.size:
                self.file.compare(point.crc)
        except FileSystemError:
            whole = sum(map(len, made)) // PAGE_SIZE * PAGE_SIZE
            if position >= first + whole or point.position >= end:
                raise
            return b"".join(made)[:whole]
        if end < entry.size:
            self.points.keep(self.number, entry.size, point, cursor=True)
        return b"".join(made)

    async def _step(self, point: Point, limit: int) -> tuple[Point, bytes]:
        """Return the point and the bytes after at most ``limit`` more; there may be none yet."""
        entry, stream = self.file.entry, point.stream
        data, fed = stream.unconsumed_tail, point.fed
        try:
            made = stream.decompress(data, limit)
            if not made and not stream.unconsumed_tail and not stream.eof:
                data = await read_bytes(self.reader, self.file.data + fed, min(_INPUT, entry.packed - fed))
                if not data:
                    raise self.file.damaged(f"its {entry.packed} bytes end within the deflate stream")
                fed += len(data)
                made = stream.decompress(data, limit)
        except zlib.error as error:
            raise self.file.damaged(
                f"deflate stream before byte {self.file.data + fed} of the image: {error}"
            ) from None
        if stream.eof and point.position + len(made) < entry.size and not made:
            raise self.file.damaged(f"it has {point.position} bytes and should have {entry.size}")
        self.points.inflated += len(made)
        return Point(point.position + len(made), fed, zlib.crc32(made, point.crc), stream), made


async def read_bytes(reader: SectorReader, place: int, size: int) -> bytes:
    """Return ``size`` bytes from byte ``place`` of the image."""
    first, last = place // SECTOR_SIZE, -(-(place + size) // SECTOR_SIZE)
    data = await reader.read(first, last - first)
    return data[place - first * SECTOR_SIZE :][:size]


async def open_entry(reader: SectorReader, directory: CentralDirectory, entry: ZipEntry) -> OpenFile:
    """Return the entry, ready to be read; FileSystemError(CORRUPT) if it is not where it should be."""
    place = directory.base + entry.offset

    def damaged(why: str) -> FileSystemError:
        return FileSystemError(ErrorCode.CORRUPT, f"{entry.name}: local header at byte {place}: {why}")

    if place + _LOCAL_HEADER > directory.offset:
        raise damaged(f"not before the central directory at {directory.offset}")
    header = await read_bytes(reader, place, _LOCAL_HEADER)
    if header[:4] != LOCAL:
        raise damaged("not there")
    method, name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (8, 26, 28))
    data = place + _LOCAL_HEADER + name + extra
    if method != entry.method:
        raise damaged(f"method {method}, in the central directory {entry.method}")
    if data + entry.packed > directory.offset:
        raise damaged(f"{entry.packed} bytes of data pass the central directory at {directory.offset}")
    if method == STORED and entry.packed != entry.size:
        raise damaged(f"stored, but {entry.size} bytes are said to take {entry.packed}")
    return OpenFile(entry, data)
