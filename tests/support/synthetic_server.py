"""A server whose files lie on the disk as a test wants: for every way in which replies can be ragged."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate, free
from callgate.server.hosted import HostedServer, operation
from callgate.server.message import Data, Object, Registers, RegisterValues, Reply, Request, Sectors
from callgate.server.pieces import cut, cut_hole, sectors_of

MAGIC = b"files as a test wants them"
SECTOR = 512
WORD = 0xFFFF_FFFF


def disk(sectors: int) -> bytes:
    """Return a disk on which every sector holds its own number."""
    first = MAGIC.ljust(SECTOR, b"\0")
    return first + b"".join(map(content, range(1, sectors)))


@cache
def content(sector: int) -> bytes:
    """Return what a sector holds on every disk: many modules want one."""
    return random.Random(sector).randbytes(SECTOR)


@dataclass
class Layout:
    """A file: its size, and for runs of its sectors where they are (None: a hole)."""

    size: int
    runs: list[tuple[int | None, int]]
    most: int = 506  # entries a reply
    kind: str = "sectors"  # or object
    fails_at: int | None = None  # byte from which on READ fails
    reads: list[tuple[int, int]] = field(default_factory=list)

    def content(self, image: bytes) -> bytes:
        """Return the bytes that a reader must have."""
        data = b"".join(
            bytes(count * SECTOR) if first is None else image[first * SECTOR : (first + count) * SECTOR]
            for first, count in self.runs
        )
        return data[: self.size]

    def entries(self, sector: int) -> list[int]:
        """Return entries from a sector of the file on, at most `most`."""
        found: list[int] = []
        at = 0
        for first, count in self.runs:
            if at + count > sector and len(found) < self.most:
                skip = max(0, sector - at)
                room = self.most - len(found)
                more = (
                    cut_hole((at + skip) % 8, count - skip, room)
                    if first is None
                    else cut(0, first + skip, count - skip, room)
                )
                found += more
                if sectors_of(more) < count - skip:
                    break
            at += count
        return found


class Synthetic(HostedServer):
    """Claims disks that begin with MAGIC; `files` are the layouts by name."""

    name = "synthetic"
    files: ClassVar[dict[str, Layout]] = {}
    attributes: ClassVar[FileAttributes] = FileAttributes.READ_ONLY  # of every file
    released: ClassVar[list[int]] = []
    held: ClassVar[dict[int, int]] = {}  # request number -> address

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "synthetic" if first.startswith(MAGIC) else None

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        return Data(b"", RegisterValues())

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        return Registers(RegisterValues(ecx=512))

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        names = list(self.files)
        if request.path() not in names:
            raise FileSystemError(ErrorCode.NOT_FOUND, request.path())
        number = names.index(request.path()) + 1
        size = self.files[request.path()].size
        return Registers(RegisterValues(eax=number, ebx=self.attributes, ecx=size & WORD, edx=size >> 32, edi=number))

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        return Registers(request.registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        registers = request.registers
        layout = list(self.files.values())[registers.ebx - 1]
        position = registers.edx << 32 | registers.eax
        layout.reads.append((position, registers.ecx))
        if layout.fails_at is not None and position >= layout.fails_at:
            raise FileSystemError(ErrorCode.CORRUPT, f"nothing at {position}")
        start = position // SECTOR * SECTOR
        entries = layout.entries(start // SECTOR)
        covered = min(sectors_of(entries) * SECTOR, layout.size - start)
        if layout.fails_at is not None:
            covered = min(covered, layout.fails_at - start)
        answer = RegisterValues(eax=covered, ecx=start & WORD, edx=start >> 32)
        if layout.kind == "object":
            return await self._object(layout, position, registers.ecx)
        return Sectors(entries, answer)

    async def _object(self, layout: Layout, position: int, wanted: int) -> Reply:
        """Answer from the server's own memory: byte i of the file is i * 7 mod 251."""
        start = position // 4096 * 4096
        size = min(wanted + position - start, layout.size - start, 506 * 4096)
        address = await allocate(size)
        self.memory.write(address, bytes((start + index) * 7 % 251 for index in range(size)))
        number = len(self.held) + len(self.released) + 1
        self.held[number] = address
        return Object(address, size, RegisterValues(eax=size, ecx=start & WORD, edx=start >> 32, edi=number))

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        await free(self.held.pop(request.registers.eax))
        self.released.append(request.registers.eax)
        return Registers(request.registers)
