"""Servers that do not answer, or not as they should, on the disk of `synthetic_server`: one file, one directory."""

from __future__ import annotations

import random
import struct
from typing import ClassVar

import synthetic_server as synthetic
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.directory import DirectoryPage, FileAttributes
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.message import Message
from callgate.kernel.abi.thread import HostedBlock, HostedGate
from callgate.server.gate import GateCall, allocate
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile, build_pages
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request, Sectors
from callgate.server.pieces import cut

IMAGE = synthetic.disk(64)
SIZE = 16 * 512
FILE = "f"
CARRY = 1


class Silent(synthetic.Synthetic):
    """Serves one file and an empty directory; never answers the operations in `silent`."""

    files: ClassVar[dict[str, synthetic.Layout]] = {FILE: synthetic.Layout(SIZE, [(8, 16)])}
    silent: ClassVar[frozenset[Operation]] = frozenset()
    answered: ClassVar[list[Operation]] = []  # in order
    page: ClassVar[int] = 0

    async def serve(self, message: int) -> ServerCall:
        if message:
            page = Message.from_buffer_copy(self.memory.read(message, size_of(Message)))
            if page.operation in self.silent:
                return ServerCall.WAIT
            self.answered.append(Operation(page.operation))
        return await super().serve(message)

    def answer(self, message: int, **registers: int) -> None:
        """Leave these registers of a reply to the stub, which saves them in the message; the others stay as sent."""
        for name, value in registers.items():
            self.memory.write(self.blocks[message] + offset_of(HostedBlock, name), struct.pack("<I", value))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        address = await allocate(4096)
        self.memory.write(address, bytes(DirectoryPage(0, size_of(DirectoryPage), 0, 0)))
        return Object(address, 4096, RegisterValues(ecx=1, edx=1))  # version 0: nothing is kept

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        return Registers(request.registers)


class AnswersWithErrors(Silent):
    """Answers the operations in `scolded` with error codes, one after the other from 0 to 255."""

    scolded: ClassVar[frozenset[Operation]] = frozenset()
    code: ClassVar[int] = 0

    async def serve(self, message: int) -> ServerCall:
        if message:
            page = Message.from_buffer_copy(self.memory.read(message, size_of(Message)))
            if page.operation in self.scolded:
                self.answered.append(Operation(page.operation))
                self.answer(message, eax=type(self).code, eflags=CARRY)
                type(self).code = (type(self).code + 1) % 256
                return ServerCall.REPLY_REGISTERS
        return await super().serve(message)


class AlwaysAnswersAlike(Silent):
    """Answers every READ alike: with `kind`, or with the error `error`."""

    error: ClassVar[int] = 0

    async def serve(self, message: int) -> ServerCall:
        if message:
            page = Message.from_buffer_copy(self.memory.read(message, size_of(Message)))
            if page.operation == Operation.READ:
                self.answered.append(Operation.READ)
                self.memory.write(message + offset_of(Message, "count"), struct.pack("<I", 0))
                if not self.error:
                    self.answer(message, eax=0, edi=0, eflags=0)
                    return ServerCall.REPLY_SECTORS  # successfully nothing
                self.answer(message, eax=self.error, edi=0, eflags=CARRY)
                return ServerCall.REPLY_REGISTERS
        return await super().serve(message)


class OneByteReplies(Silent):
    """Answers every READ with the sector that is asked for, and says that one byte of it is new."""

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        registers = request.registers
        position = registers.edx << 32 | registers.eax
        start = position // synthetic.SECTOR * synthetic.SECTOR
        entries = self.files[FILE].entries(start // synthetic.SECTOR)[:1]
        return Sectors(entries, RegisterValues(eax=position - start + 1, ecx=start))


class Shuffling(Silent):
    """Answers every READ with 506 sectors of a disk of 8 TiB, in no order."""

    size: ClassVar[int] = 506 * synthetic.SECTOR

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        return Registers(RegisterValues(eax=1, ecx=self.size, edi=1))

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        source = random.Random(506)
        entries = [entry for _ in range(506) for entry in cut(0, source.randrange(1 << 34), 1, 1)]
        return Sectors(entries, RegisterValues(eax=self.size))


class Late(Silent):
    """Mounts after `delay` nanoseconds of virtual time; never if it is None."""

    delay: ClassVar[int | None] = None

    async def start(self) -> None:
        while True:
            pause = 1_000_000_000 if self.delay is None else self.delay
            low, high = pause & 0xFFFF_FFFF, pause >> 32
            await GateCall(HostedGate.SYSTEM, SystemCall.SLEEP, ecx=low, edx=high)
            if self.delay is not None:
                return


class Linking(Silent):
    """Has one symbolic link, and answers READ_LINK with `replies`, one after the other: call, count, data.

    An object is a page of its own, or with a count of 0 one of the kernel's.  EAX says that the target has 4 GiB.
    """

    replies: ClassVar[list[tuple[ServerCall, int, bytes]]] = []

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        address = await allocate(4096)
        self.memory.write(address, build_pages([ListedFile("l", FileAttributes.SYMLINK)], 0))
        return Object(address, 4096, RegisterValues(ecx=1, edx=1, edi=1))  # version 0: nothing is kept

    @operation(Operation.READ_LINK)
    async def read_link(self, request: Request) -> Reply:
        return Object(await allocate(4096), 4096, RegisterValues(eax=0xFFFF_FFFF))

    async def serve(self, message: int) -> ServerCall:
        if message:
            page = Message.from_buffer_copy(self.memory.read(message, size_of(Message)))
            if page.operation == Operation.READ_LINK:
                self.answered.append(Operation.READ_LINK)
                call, count, data = self.replies.pop(0)
                if call is ServerCall.REPLY_OBJECT and count:
                    return await super().serve(message)
                self.memory.write(message + offset_of(Message, "count"), struct.pack("<I", count))
                self.memory.write(message + offset_of(Message, "data"), data)
                self.answer(message, eax=0xFFFF_FFFF, eflags=0)
                return call
        return await super().serve(message)
