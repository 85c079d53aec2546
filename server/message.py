"""Requests as handlers see them, and the replies they return, on the way through block and message page.

The stub (asm/user/servers/hosted.asm) loads the registers out of the page into the thread's HostedBlock, where
`Request.load` finds them, and saves those of the reply, which `store` leaves there, into the page.  Data stay in the
page.  `store` names the gate function that sends the reply; the kernel believes the gate function, and of the page only
what that reply type allows (design.md, "IPC").
"""

from struct import Struct
from typing import Final, NamedTuple, Protocol

from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES, MESSAGE_DATA_SIZE, Message, MessageFlags
from callgate.kernel.abi.thread import HostedBlock
from callgate.server.errors import FileSystemError, ReplyError
from callgate.server.gate import CARRY_FLAG, LOW_DWORD

_COUNT: Final = offset_of(Message, "count")
_COUNT_AND_ERROR: Final = Struct("<II")
_REGISTERS: Final = offset_of(HostedBlock, "eax")
_SAVED: Final = Struct("<7I")  # six registers, EFLAGS
_DATA: Final = offset_of(Message, "data")
_OBJECT: Final = Struct("<II")
_ENTRY: Final = Struct("<8I")  # BatchEntry: operation, six registers, EFLAGS


class ServerMemory(Protocol):
    """The server's memory through its own page tables at ring 3; a bad address kills the server."""

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes from linear address ``address``."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` to linear address ``address``."""
        ...


class RegisterValues(NamedTuple):
    """The six registers that a message carries, 32 bits each, unsigned."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0


class Request(NamedTuple):
    """One request: operation number, registers, and the data that came with it (at most 4048 bytes)."""

    operation: int
    registers: RegisterValues
    data: bytes = b""

    @classmethod
    def load(cls, memory: ServerMemory, address: int, block: int) -> "Request":
        """Return the request in the message page at linear ``address``, which the stub has loaded into ``block``.

        Of the page itself only the data are read.
        """
        loaded = HostedBlock.from_buffer_copy(memory.read(block, size_of(HostedBlock)))
        registers = RegisterValues(loaded.eax, loaded.ebx, loaded.ecx, loaded.edx, loaded.esi, loaded.edi)
        size = min(loaded.count, MESSAGE_DATA_SIZE) if loaded.flags & MessageFlags.DATA else 0
        return cls(loaded.operation, registers, memory.read(address + _DATA, size) if size else b"")

    def batch(self) -> "list[Request]":
        """Return the requests of a batch, without data; FileSystemError(BAD_ARGUMENT) if the data are no entries."""
        if not self.data or len(self.data) % _ENTRY.size:
            raise FileSystemError(ErrorCode.BAD_ARGUMENT, f"{len(self.data)} bytes are no entries of a batch")
        return [
            Request(number, RegisterValues(*registers)) for number, *registers, _flags in _ENTRY.iter_unpack(self.data)
        ]

    def path(self) -> str:
        """Return the data as a path; FileSystemError(BAD_ARGUMENT) if it is no UTF-8 text."""
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileSystemError(
                ErrorCode.BAD_ARGUMENT, f"path {self.data!r} is not UTF-8 at byte {error.start}"
            ) from None
        if "\0" in text:
            raise FileSystemError(ErrorCode.BAD_ARGUMENT, f"path {text!r} contains a NUL")
        return text


class Registers(NamedTuple):
    """Reply with registers alone."""

    registers: RegisterValues

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its data in the page; return the gate function that sends it."""
        _write(memory, (address, block), self.registers)
        return ServerCall.REPLY_REGISTERS


class Data(NamedTuple):
    """Reply with bytes in the page: at most MESSAGE_DATA_SIZE."""

    data: bytes
    registers: RegisterValues

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its data in the page; return the gate function that sends it."""
        _write(memory, (address, block), self.registers, self.data, len(self.data))
        return ServerCall.REPLY_DATA


class Object(NamedTuple):
    """Reply with memory of the server: page-aligned linear address, size in bytes (at least 1)."""

    address: int
    size: int
    registers: RegisterValues

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its data in the page; return the gate function that sends it."""
        if self.address % PAGE_SIZE or not 0 < self.size <= LOW_DWORD:
            raise ReplyError(f"object of {self.size} bytes at {self.address:#x} is empty or not page-aligned")
        data = _OBJECT.pack(self.address, self.size)
        _write(memory, (address, block), self.registers, data, len(data))
        return ServerCall.REPLY_OBJECT


class Sectors(NamedTuple):
    """Reply with sectors of the partition: at most MESSAGE_ADDRESSES entries (abi/volume.py)."""

    entries: list[int]
    registers: RegisterValues

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its data in the page; return the gate function that sends it."""
        count = len(self.entries)
        if not 0 < count <= MESSAGE_ADDRESSES:
            raise ReplyError(f"a sectors reply has 1 to {MESSAGE_ADDRESSES} entries, not {count}")
        _write(memory, (address, block), self.registers, Struct(f"<{count}Q").pack(*self.entries), count)
        return ServerCall.REPLY_SECTORS


class Failure(NamedTuple):
    """Reply of a request that failed: CF set, EAX and `Message.error` the code, other registers as sent."""

    code: ErrorCode
    registers: RegisterValues

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its data in the page; return the gate function that sends it."""
        _write(memory, (address, block), self.registers._replace(eax=self.code), code=self.code)
        return ServerCall.REPLY_REGISTERS


Reply = Registers | Data | Object | Sectors | Failure


class Batch(NamedTuple):
    """Reply to a batch: to each request its own, of which registers and flags travel."""

    replies: list[tuple[Request, Reply]]

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        """Leave the reply to the stub, its entries in the page; return the gate function that sends it."""
        data = b"".join(_entry(request, reply) for request, reply in self.replies)
        _write(memory, (address, block), RegisterValues(), data, len(data))
        return ServerCall.REPLY_REGISTERS


def _entry(request: Request, reply: Reply) -> bytes:
    """Return a request of a batch with its reply's registers and flags, as a BatchEntry."""
    if isinstance(reply, Failure):
        return _ENTRY.pack(request.operation, *reply.registers._replace(eax=reply.code), CARRY_FLAG)
    return _ENTRY.pack(request.operation, *_checked(reply.registers), 0)


def _checked(registers: RegisterValues) -> RegisterValues:
    """Return registers as they are; ReplyError if one is not an unsigned 32-bit number."""
    for name, value in zip(registers._fields, registers, strict=True):
        if not 0 <= value <= LOW_DWORD:
            raise ReplyError(f"{name} = {value:#x} is not an unsigned 32-bit number")
    return registers


def _write(
    memory: ServerMemory,
    place: tuple[int, int],
    registers: RegisterValues,
    data: bytes = b"",
    count: int = 0,
    code: ErrorCode = ErrorCode.OK,
) -> None:
    """Write what a reply may change: registers and flags into the block, the rest into the page."""
    address, block = place
    if len(data) > MESSAGE_DATA_SIZE:
        raise ReplyError(f"a reply carries at most {MESSAGE_DATA_SIZE} bytes of data, not {len(data)}")
    memory.write(block + _REGISTERS, _SAVED.pack(*_checked(registers), CARRY_FLAG if code else 0))
    memory.write(address + _COUNT, _COUNT_AND_ERROR.pack(count, code))
    if data:
        memory.write(address + _DATA, data)
