"""A client whose batches a test makes: it chooses registers and memory, and reads what has become of them."""

from struct import Struct
from typing import Any, NamedTuple

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.records import Process
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.system import System
from ipc_rig import CLIENT_ORIGIN, executable, program

ENTRY = Struct("<8I")  # BatchEntry
REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi")
STATUS_FLAGS = 0x8D5
FUEL = 50_000_000


class Entry(NamedTuple):
    """One request of a batch, or its reply."""

    operation: int
    eax: int = 1
    ebx: int = 2
    ecx: int = 3
    edx: int = 4
    esi: int = 5
    edi: int = 6
    eflags: int = 0

    @property
    def registers(self) -> tuple[int, ...]:
        return self[1:7]


def attention(system: System) -> None:
    """Interrupt a CPU that may be halted, so that it sees changes from outside."""
    system.machine.pic.lower_line(IRQ)
    system.machine.pic.raise_line(IRQ)


class Asker:
    """The program `batch_asker`, at the far CALL of its next batch."""

    def __init__(self, system: System, volume: int, path: bytes = b"", flags: int = 0) -> None:
        """Start the program, which opens the file at a path; its requests go to the server of a volume."""
        self.system = system
        self.volume = volume
        self.number = self._start(bytes([flags]) + path if path else b"").number
        self.entries = self.label("entries")
        attention(system)
        self.to("before")
        self.heap, self.window = (
            int.from_bytes(self.read(self.label(name), 4), "little") for name in ("heap", "window")
        )

    def _start(self, arguments: bytes) -> Process:
        kernel = self.system.kernel
        process = kernel.processes.create("batch_asker")
        entry = kernel.processes.load(process, executable("batch_asker", CLIENT_ORIGIN), arguments)
        kernel.processes.start(process, entry)
        return process

    @staticmethod
    def label(name: str) -> int:
        return program("batch_asker", CLIENT_ORIGIN).address(name)

    @property
    def process(self) -> Process:
        """The process; another object after a restore."""
        return self.system.kernel.state.tasks.processes[self.number]

    def to(self, label: str) -> None:
        stop = self.system.run(until=self.label(label), fuel=FUEL)
        assert stop.reason == "until", stop

    def read(self, address: int, size: int) -> bytes:
        return self.system.kernel.processes.memory_of(self.process).read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.system.kernel.processes.memory_of(self.process).write(address, data)

    def put(self, entries: list[Entry], address: int = 0) -> None:
        """Write entries to an address, usually that of `entries`."""
        self.write(address or self.entries, b"".join(ENTRY.pack(*entry) for entry in entries))

    def take(self, count: int, address: int = 0) -> list[Entry]:
        """Return entries from an address."""
        return [Entry(*values) for values in ENTRY.iter_unpack(self.read(address or self.entries, count * ENTRY.size))]

    def aim(self, count: int, address: int = 0, target: int | None = None) -> None:
        """Set the registers for a batch."""
        cpu = self.system.machine.cpu
        cpu.ebp = self.volume << 16 | Operation.BATCH if target is None else target
        cpu.esi, cpu.ecx = address or self.entries, count

    def ask(self, count: int, address: int = 0, target: int | None = None) -> ErrorCode:
        """Make the batch that lies at an address; the program stands before the next one then."""
        self.aim(count, address, target)
        return self.finish()

    def finish(self) -> ErrorCode:
        """Run to the end of the batch; return its error, OK if every entry was answered."""
        self.to("after")
        cpu = self.system.machine.cpu
        code = ErrorCode(cpu.eax) if cpu.eflags & 1 else ErrorCode.OK
        self.answered = 0 if code else cpu.eax
        self.to("before")
        return code

    def batch(self, *entries: Entry) -> list[Entry]:
        """Make a batch that must be answered; return the replies."""
        self.put(list(entries))
        assert self.ask(len(entries)) is ErrorCode.OK
        assert self.answered == len(entries)
        return self.take(len(entries))

    def single(self, request: Entry) -> Entry:
        """Make a request by itself; return the reply."""
        cpu = self.system.machine.cpu
        for name, value in zip(REGISTERS, request.registers, strict=True):
            setattr(cpu, name, value)
        cpu.ebp = self.volume << 16 | request.operation
        self.to("after")
        registers = (getattr(cpu, name) for name in REGISTERS)
        reply = Entry(request.operation, *registers, eflags=cpu.eflags & STATUS_FLAGS)
        self.to("before")
        return reply


def asker_of(rig: Any) -> Asker:
    """Return a client of a rig's server."""
    rig.system.run(until="idle")
    return Asker(rig.system, rig.endpoint.number)
