"""A rehearsal: a hosted server run against an image, without kernel and machine.

Gate calls are answered from a fake address space that is as unforgiving as the real one: what is not
mapped faults, locked disk blocks are read-only and vanish when they are unlocked, and the message page is
there only while it is being served.  For tests of servers, ours and others' (docs/writing-a-server.md).
"""

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.limits import LOCK_BLOCKS_SECTORS
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, USER_HEAP, USER_MESSAGES, USER_METADATA
from callgate.kernel.abi.message import Message, MessageFlags
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.abi.thread import HostedBlock, HostedGate
from callgate.server.gate import CARRY_FLAG, GateCall, GateResult
from callgate.server.hosted import HostedServer, VolumeGeometry
from callgate.server.message import RegisterValues
from callgate.server.pieces import piece

T = TypeVar("T")

STEP_LIMIT: Final = 100_000  # gate calls of one request: more is a loop
_DATA: Final = offset_of(Message, "data")
_BLOCKS: Final = SLOTS * PAGE_SIZE  # from a message page to the HostedBlock that it is loaded into


class MemoryFaultError(Exception):
    """The server touched memory that it does not have; the kernel would kill it."""


class FakeMemory:
    """Linear memory of one server, in regions that begin on page boundaries."""

    def __init__(self) -> None:
        self.regions: dict[int, bytearray | bytes] = {}  # bytes are read-only

    def read(self, address: int, length: int) -> bytes:
        """Return memory; MemoryFaultError if any of it is not mapped."""
        base = self._region(address, length)
        return bytes(self.regions[base][address - base : address - base + length])

    def write(self, address: int, data: bytes) -> None:
        """Write memory; MemoryFaultError if any of it is not mapped or is read-only."""
        base = self._region(address, len(data))
        region = self.regions[base]
        if isinstance(region, bytes):
            raise MemoryFaultError(f"write of {len(data)} bytes to read-only memory at {address:#x}")
        region[address - base : address - base + len(data)] = data

    def _region(self, address: int, length: int) -> int:
        for base, region in self.regions.items():
            if base <= address and address + length <= base + len(region):
                return base
        raise MemoryFaultError(f"{length} bytes at {address:#x} are not mapped")


class Answer(NamedTuple):
    """A reply as the kernel accepts it: the parts that the gate function allows."""

    call: ServerCall
    error: ErrorCode
    registers: RegisterValues
    data: bytes = b""  # of a data reply; of the reply to a batch its entries
    memory: bytes = b""  # of an object reply, the content of the object
    sectors: tuple[tuple[int | None, int], ...] = ()  # of a sectors reply: first sector (None: a hole), count


class Rehearsal:
    """One server over one image; ``image`` is anything with the buffer interface."""

    def __init__(
        self,
        server: type[HostedServer],
        image: bytes | bytearray | memoryview,
        *,
        start: int = 0,
        sectors: int | None = None,
        memory_limit: int = 64 << 20,
    ) -> None:
        self.image = memoryview(image)
        if sectors is None:
            sectors = len(self.image) // SECTOR_SIZE - start
        self.geometry = VolumeGeometry("d0p1", start, sectors)
        self.memory = FakeMemory()
        self.memory_limit = memory_limit
        self.server = server(self.memory, self.geometry)
        self.calls: list[GateCall] = []  # every gate call made so far
        self.bad_sectors: set[int] = set()  # of the partition: reading them is an I/O error
        self.locks: dict[int, tuple[int, int]] = {}
        self._next_heap = USER_HEAP
        self._next_lock = USER_METADATA

    def start(self) -> None:
        """Mount; exceptions of the server are passed on."""
        self.drive(self.server.serve(0))

    def request(self, operation: int, data: bytes | None = None, **registers: int) -> Answer:
        """Send one request and return the reply."""
        address = self.post(operation, data, **registers)
        call = self.drive(self.server.serve(address))
        return self.take(address, call)

    def post(self, operation: int, data: bytes | None = None, **registers: int) -> int:
        """Map a message page with a request; return its address (for several requests at once)."""
        address = USER_MESSAGES
        while address in self.memory.regions:
            address += PAGE_SIZE
        page = Message(operation=operation, handle=address >> 12 & 0xFF, **registers)
        if data is not None:
            page.flags, page.count = MessageFlags.DATA, len(data)
        content = bytearray(bytes(page))
        content[_DATA : _DATA + len(data or b"")] = data or b""
        self.memory.regions[address] = content
        block = HostedBlock(message=address, operation=operation, flags=page.flags, count=page.count, **registers)
        self.server.blocks[address] = address + _BLOCKS
        self.memory.regions[address + _BLOCKS] = bytearray(bytes(block))
        return address

    def take(self, address: int, call: ServerCall) -> Answer:
        """Unmap a served message page and return its reply as the stub and the kernel would."""
        raw = bytes(self.memory.regions.pop(address))
        page = Message.from_buffer_copy(raw)
        saved = HostedBlock.from_buffer_copy(self.memory.regions.pop(self.server.blocks.pop(address)))
        registers = RegisterValues(saved.eax, saved.ebx, saved.ecx, saved.edx, saved.esi, saved.edi)
        answer = Answer(call, ErrorCode(page.error), registers)
        if bool(saved.eflags & CARRY_FLAG) != bool(page.error):
            raise AssertionError(f"CF and error disagree: eflags {saved.eflags:#x}, error {page.error}")
        data = raw[_DATA:]
        batch = page.operation == Operation.BATCH and call is ServerCall.REPLY_REGISTERS and not page.error
        if call is ServerCall.REPLY_DATA or batch:
            return answer._replace(data=data[: page.count])
        if call is ServerCall.REPLY_OBJECT:
            base, size = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4))
            return answer._replace(memory=self.memory.read(base, size))
        if call is ServerCall.REPLY_SECTORS:
            entries = (int.from_bytes(data[i : i + 8], "little") for i in range(0, page.count * 8, 8))
            return answer._replace(sectors=tuple(map(piece, entries)))
        return answer

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a handler to its end, answering its gate calls."""
        result: GateResult | None = None
        for _ in range(STEP_LIMIT):
            try:
                call = coroutine.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = self.answer(call)
        coroutine.close()
        raise AssertionError(f"more than {STEP_LIMIT} gate calls for one request")

    def answer(self, call: GateCall) -> GateResult:
        """Answer one gate call as the kernel would."""
        self.calls.append(call)
        match (call.gate, call.eax):
            case (HostedGate.SERVER, ServerCall.LOCK_BLOCKS):
                return self._lock(call.edx << 32 | call.esi, call.ecx)
            case (HostedGate.SERVER, ServerCall.UNLOCK_BLOCKS):
                return self._unlock(call.ebx)
            case (HostedGate.SERVER, ServerCall.DIRECTORY_CHANGED):
                return GateResult(0)
            case (HostedGate.SYSTEM, SystemCall.ALLOCATE):
                return self._allocate(call.ecx)
            case (HostedGate.SYSTEM, SystemCall.FREE):
                return self._free(call.ebx)
        return _failure(ErrorCode.BAD_CALL)

    def read_sectors(self, sector: int | None, count: int) -> bytes:
        """Return sectors of the partition from the image, as the disk would; None is a hole, zeros."""
        if sector is None:
            return bytes(count * SECTOR_SIZE)
        offset = (self.geometry.start + sector) * SECTOR_SIZE
        return bytes(self.image[offset : offset + count * SECTOR_SIZE])

    def _lock(self, sector: int, count: int) -> GateResult:
        if not 0 < count <= LOCK_BLOCKS_SECTORS or sector + count > self.geometry.sectors:
            return _failure(ErrorCode.BAD_ARGUMENT)
        if not self.bad_sectors.isdisjoint(range(sector, sector + count)):
            return _failure(ErrorCode.IO_ERROR)
        # As in a real server's memory, what comes before the sector in its 4 KiB block is there too.
        address = self._next_lock + (self.geometry.start + sector) * SECTOR_SIZE % PAGE_SIZE
        self._next_lock += PAGE_SIZE * (count // 8 + 3)
        self.memory.regions[address] = self.read_sectors(sector, count).ljust(count * SECTOR_SIZE, b"\0")
        self.locks[address] = (sector, count)
        return GateResult(address)

    def _unlock(self, address: int) -> GateResult:
        if self.locks.pop(address, None) is None:
            return _failure(ErrorCode.BAD_ADDRESS)
        del self.memory.regions[address]
        return GateResult(0)

    def _allocate(self, size: int) -> GateResult:
        pages = -(-size // PAGE_SIZE)
        if not pages or self.allocated() + pages * PAGE_SIZE > self.memory_limit:
            return _failure(ErrorCode.NO_MEMORY)
        address = self._next_heap
        self._next_heap += (pages + 1) * PAGE_SIZE  # a hole, so that overruns fault
        self.memory.regions[address] = bytearray(pages * PAGE_SIZE)
        return GateResult(address)

    def _free(self, address: int) -> GateResult:
        if not USER_HEAP <= address < USER_MESSAGES or self.memory.regions.pop(address, None) is None:
            return _failure(ErrorCode.BAD_ADDRESS)
        return GateResult(0)

    def allocated(self) -> int:
        """Return how many bytes the server has allocated."""
        return sum(len(region) for base, region in self.memory.regions.items() if USER_HEAP <= base < USER_MESSAGES)


def _failure(code: ErrorCode) -> GateResult:
    return GateResult(code, eflags=CARRY_FLAG)
