"""Open files: handles, and file data mapped into the process that asks for it.

A handle belongs to one process; several handles of one file are independent.  MAP_FILE answers from an
area that is already mapped or asks the server for the next one; the server names sectors (or memory of
its own), the kernel maps the pages.  An area is consecutive in the file and in memory: pieces of blocks
at its head and tail are private copies (rule 7), whole pages in between are the cache's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.errors import PolicyError
from callgate.kernel.requests import Piece, Pin
from callgate.kernel.state import PartitionState, Process, Window
from callgate.kernel.windows import Source

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

HANDLES_LIMIT = 64
AREAS_LIMIT = 8  # areas that stay mapped for one handle; the oldest goes first
WANTED_LIMIT = 506 * PAGE_SIZE


@dataclass(slots=True)
class Area:
    """Consecutive bytes of a file in consecutive memory: file position, length, linear address."""

    position: int
    length: int
    address: int
    window: int  # address of the window


@dataclass(slots=True)
class OpenFile:
    """An open file of one process."""

    partition: int
    server_file: int
    size: int
    attributes: int
    areas: list[Area] = field(default_factory=list)


class Files:
    """OPEN, CLOSE and MAP_FILE."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    async def open(self, process: Process, path: bytes, path_address: int) -> tuple[int, OpenFile]:
        """Open the file at an absolute path that also lies at kernel address `path_address`."""
        partition, rest = self.kernel.volumes.resolve(path)
        if partition is None:
            raise PolicyError(ErrorCode.IS_DIRECTORY)
        if len(process.files) >= HANDLES_LIMIT:
            raise PolicyError(ErrorCode.NO_RESOURCES)
        data = (path_address + len(path) - len(rest), len(rest))
        reply = await self.kernel.requests.make(partition, Operation.OPEN, data=data)
        registers = reply.registers
        await reply.finish()
        size = registers.edx << 32 | registers.ecx
        file = OpenFile(partition.number, registers.eax, size, registers.ebx)
        if file.attributes & FileAttributes.DIRECTORY:
            await self._close_at_server(file)
            raise PolicyError(ErrorCode.IS_DIRECTORY)
        handle = next(number for number in range(1, HANDLES_LIMIT + 1) if number not in process.files)
        process.files[handle] = file
        return handle, file

    async def close(self, process: Process, handle: int) -> None:
        """Close a handle: its windows go, the server forgets the file."""
        file = self._file(process, handle)
        del process.files[handle]
        self._drop_areas(process, file)
        await self._close_at_server(file)

    async def close_all(self, process: Process) -> None:
        """Close every handle of a process that ends; what its server says no longer matters."""
        for handle in list(process.files):
            file = process.files.pop(handle)
            self._drop_areas(process, file)
            try:
                await self._close_at_server(file)
            except PolicyError as error:
                self.kernel.log(f"{process.name}: closing a file: {error}")

    async def map(self, process: Process, handle: int, position: int, wanted: int) -> tuple[int, int]:
        """Return (address, bytes) of file data at `position`; (0, 0) at or behind the end."""
        file = self._file(process, handle)
        if position >= file.size or wanted == 0:
            return 0, 0
        area = next((a for a in file.areas if a.position <= position < a.position + a.length), None)
        if area is None:
            area = await self._read(process, file, position, min(wanted, WANTED_LIMIT, file.size - position))
        offset = position - area.position
        return area.address + offset, area.length - offset

    async def read_all(self, partition: PartitionState, path: tuple[int, int], limit: int) -> bytes:
        """Return the content of a small file for the kernel's own use (starting a program)."""
        reply = await self.kernel.requests.make(partition, Operation.OPEN, data=path)
        registers = reply.registers
        await reply.finish()
        file = OpenFile(partition.number, registers.eax, registers.edx << 32 | registers.ecx, registers.ebx)
        try:
            if file.attributes & FileAttributes.DIRECTORY:
                raise PolicyError(ErrorCode.IS_DIRECTORY)
            if file.size > limit:
                raise PolicyError(ErrorCode.NOT_EXECUTABLE, f"{file.size} bytes are too many")
            return await self._gather(file)
        finally:
            await self._close_at_server(file)

    async def _gather(self, file: OpenFile) -> bytes:
        data = b""
        while len(data) < file.size:
            pieces, pins, start, covered = await self._request(file, len(data), file.size - len(data))
            views = (self.kernel.machine.ram.view(*extent(piece)) for piece in pieces)
            content = b"".join(bytes(view) for view in views)[:covered]
            self.kernel.unpin(pins)
            self.kernel.machine.ledger.copied["kernel"] += len(content)
            if start + len(content) <= len(data):
                raise PolicyError(ErrorCode.BAD_REPLY)
            data += content[len(data) - start :]
        return data[: file.size]

    async def _read(self, process: Process, file: OpenFile, position: int, wanted: int) -> Area:
        pieces, pins, start, covered = await self._request(file, position, wanted)
        taken, length = contiguous(pieces)
        first = pieces[0].first * SECTOR_SIZE
        length = min(length, covered, file.size - start)
        if not start <= position < start + length:
            self.kernel.unpin(pins)
            raise PolicyError(ErrorCode.BAD_REPLY)
        self._make_room(process, file)
        window = self._map(process, pieces[:taken], pins, length, first)
        area = Area(start, length, window.address + first, window.address)
        file.areas.append(area)
        return area

    def _map(self, process: Process, pieces: list[Piece], pins: list[Pin], length: int, first: int) -> Window:
        """Map pieces; those that are not wholly the file's become private copies."""
        source = Source([], pins)
        left = first + length
        try:
            for piece in pieces:
                if piece.whole and left >= PAGE_SIZE:
                    source.frames.append(piece.frame)
                else:
                    address, size = extent(piece)
                    size = min(size, left - piece.first * SECTOR_SIZE)
                    frame = self.kernel.windows.private_copy(piece.frame, address - piece.frame, size)
                    source.frames.append(frame)
                    source.private.append(frame)
                left -= PAGE_SIZE
        except PolicyError:
            self.kernel.windows.drop(source)
            raise
        return self.kernel.windows.open(process, "file", source)

    async def _request(self, file: OpenFile, position: int, wanted: int) -> tuple[list[Piece], list[Pin], int, int]:
        """Ask the server; return pieces, pins, the position where they start and the bytes they cover."""
        partition = self.kernel.state.partitions[file.partition]
        reply = await self.kernel.requests.make(
            partition,
            Operation.READ,
            ebx=file.server_file,
            eax=position & 0xFFFF_FFFF,
            edx=position >> 32,
            ecx=wanted,
        )
        registers = reply.registers
        pieces, pins = await reply.take_pages()
        start = registers.edx << 32 | registers.ecx
        if not pieces or start > position:
            self.kernel.unpin(pins)
            raise PolicyError(ErrorCode.BAD_REPLY)
        return pieces, pins, start, registers.eax

    def _file(self, process: Process, handle: int) -> OpenFile:
        file: OpenFile | None = process.files.get(handle)
        if file is None:
            raise PolicyError(ErrorCode.BAD_HANDLE)
        if self.kernel.state.partitions[file.partition].dead:
            raise PolicyError(ErrorCode.SERVER_DIED)
        return file

    def _make_room(self, process: Process, file: OpenFile) -> None:
        while len(file.areas) >= AREAS_LIMIT:
            self.kernel.windows.close(process, process.windows[file.areas.pop(0).window])

    def _drop_areas(self, process: Process, file: OpenFile) -> None:
        while file.areas:
            self.kernel.windows.close(process, process.windows[file.areas.pop().window])

    async def _close_at_server(self, file: OpenFile) -> None:
        partition = self.kernel.state.partitions[file.partition]
        if not partition.dead:
            reply = await self.kernel.requests.make(partition, Operation.CLOSE, eax=file.server_file)
            await reply.finish()


def extent(piece: Piece) -> tuple[int, int]:
    """Return (physical address, bytes) of a piece."""
    return piece.frame + piece.first * SECTOR_SIZE, piece.sectors * SECTOR_SIZE


def contiguous(pieces: list[Piece]) -> tuple[int, int]:
    """Return how many leading pieces form one area, and its bytes.

    An area ends before the first piece that does not start its page, or behind the first one that does
    not end its page: linear memory could not go on there.
    """
    length = 0
    for index, piece in enumerate(pieces):
        if index and piece.first:
            return index, length
        length += piece.sectors * SECTOR_SIZE
        if piece.first + piece.sectors < PAGE_SIZE // SECTOR_SIZE:
            return index + 1, length
    return len(pieces), length
