"""A guest without a machine, for unit tests of managers: plain memory, a clock that tests set, recorded requests.

The `Guest` is the kernel's own; the parts below it are here: low memory and a few blocks of high memory, symbols that
lead to tables in low memory or, for routines, to addresses that nothing executes, and lists of policy's requests to the
machine.  `Tasks` adds the memory managers, the scheduler, threads and processes, which most tests of a manager need
below it.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from callgate.kernel.abi.disks.disk import DISKS, Disk
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_BASE, PAGE_SIZE
from callgate.kernel.core.coroutines import CARRY, RoutineCall, RoutineResult
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import Log, LogState
from callgate.kernel.core.records import PRIORITY_IDLE, PRIORITY_USER, Endpoints, EndpointState, Process, Thread
from callgate.kernel.core.records import Tasks as TaskRecords
from callgate.kernel.machine.cpu.fpu import from_area
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.observation.turns import Turns
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.page_tables import KernelSpace
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.tasks.fpu import FloatingPointUnit, initial_area
from callgate.kernel.tasks.processes import Processes
from callgate.kernel.tasks.scheduler import Scheduler, SchedulerState
from callgate.kernel.tasks.shares import Shares
from callgate.kernel.tasks.threads import Threads

TABLES = {"kernel_words": 0x1000, "gdt": 0x2000, "disk_table": 0x8000}  # physical
ROUTINES = 0x1_0000  # physical: where symbols of routines begin, 16 bytes each
FRAMES = 0x10_0000  # physical: where frames of low memory begin


class PlainRam:
    """Low memory from 0 and high memory from 4 GiB, all zeros; accesses are booked by account."""

    def __init__(self, low: int, high: int) -> None:
        self.low = memoryview(mmap.mmap(-1, low))
        self.high = memoryview(mmap.mmap(-1, high))
        self.touched: Counter[Account] = Counter()

    def view(self, physical: int, length: int, account: Account | None = None) -> memoryview:
        if account is not None:
            self.touched[account] += length
        memory, start = (self.low, physical) if physical < HIGH_MEMORY else (self.high, physical - HIGH_MEMORY)
        assert 0 <= start <= start + length <= len(memory), f"no memory at {physical:#x}"
        return memory[start : start + length]

    def read(self, physical: int, length: int, account: Account | None = None) -> bytes:
        return bytes(self.view(physical, length, account))

    def write(self, physical: int, data: bytes | memoryview, account: Account | None = None) -> None:
        self.view(physical, len(data), account)[:] = data

    def put_u64(self, physical: int, value: int) -> None:
        self.view(physical, 8)[:] = value.to_bytes(8, "little")

    def u64(self, physical: int) -> int:
        return int.from_bytes(self.view(physical, 8), "little")


class PlainMachine:
    """The parts of a machine that policy uses: a clock in nanoseconds, registers, and counts of calls."""

    def __init__(self, low: int, high: int) -> None:
        self.ram = PlainRam(low, high)
        self.clock = SimpleNamespace(now=0, retired=0)
        self.state = SimpleNamespace(count=0, charged_at=0)  # instructions: retired, and charged to threads
        self.cpu = SimpleNamespace(eip=0, cr0=0, cr2=0, gs=0)
        self.fpu = from_area(bytes(initial_area()))
        self.ledger = SimpleNamespace(
            extra=Counter(), blocking_waits=0, boots=0, settle_boot=self._settle_boot, turns=Turns(self.state)
        )
        self.flushes = 0  # of the TLB
        self.changed_code: list[tuple[int, int]] = []
        self.host_calls = SimpleNamespace(register=self._register)
        self.answers: dict[int, Callable[[int], None]] = {}  # by host call

    def _settle_boot(self) -> None:
        self.ledger.boots += 1

    def _register(self, call: int, answer: Callable[[int], None], name: str, names: object = None) -> None:
        assert call not in self.answers, name
        self.answers[call] = answer

    def flush_tlb(self) -> None:
        self.flushes += 1

    def code_changed(self, physical: int, size: int) -> None:
        self.changed_code.append((physical, size))

    def disassemble(self, address: int, count: int, name: Callable[[int], str]) -> list[str]:
        return [f"{address:08x} {name(address)}"]


class PlainImage:
    """Symbols: the tables, and for every other name that is asked for an address of its own, in order."""

    def __init__(self) -> None:
        self.symbols = {name: KERNEL_BASE + at for name, at in TABLES.items()}

    def address(self, name: str) -> int:
        return self.symbols.setdefault(name, KERNEL_BASE + ROUTINES + 16 * len(self.symbols))

    def symbol_at(self, address: int) -> str:
        return next((name for name, at in self.symbols.items() if at == address), "")


def plain_guest(low: int = 8 << 20, high: int = 1 << 20) -> Guest:
    """Return the kernel's view of `low` and `high` bytes of memory."""
    return Guest(PlainMachine(low, high), PlainImage())  # type: ignore[arg-type]


class Tasks:
    """Memory, scheduler, threads and processes on a plain guest, wired as in the kernel; a shell runs.

    `frames` of low memory and `blocks` of high memory can be given out.  Calls of the managers are recorded:
    `let_go` (processes), `lines` of the log; `reclaim` returns what is released under pressure.
    """

    def __init__(self, *, frames: int = 1536, blocks: int = 64) -> None:
        self.guest = plain_guest(FRAMES + frames * PAGE_SIZE, blocks * PAGE_SIZE)
        self.machine: Any = self.guest.machine
        low = FramePool(FRAMES, FRAMES + frames * PAGE_SIZE)
        high = FramePool(HIGH_MEMORY, HIGH_MEMORY + blocks * PAGE_SIZE)
        self.memory = PhysicalMemory(self.guest, low, high, KernelSpace(0))
        self.memory.space.directory = self.memory.tables.new_table()
        self.low, self.high, self.tables = low, high, self.memory.tables
        self.gdt = GlobalTable(self.guest.ram, self.guest.physical("gdt"))
        self.records, self.endpoints = TaskRecords(), Endpoints()
        self.let_go: list[Process] = []
        self.lines: list[str] = []
        self.reclaim: Callable[[Callable[[], bool]], bool] = lambda _enough: False
        self.log = Log(LogState(), self.guest, self.endpoints, self.lines.append)
        self.scheduler = Scheduler(
            self.guest.words,
            self.guest.kernel_words.base,
            lambda: self.guest.now,
            lambda _reason: None,
            SchedulerState(),
            self.records,
        )
        self.fpu = FloatingPointUnit(self.guest, self.records)
        self.shares = Shares(self.records, self.endpoints, self.memory, self._reclaim)
        self.threads = Threads(
            self.guest, self.memory, self.gdt, self.scheduler, self.fpu, self.records, self.shares.check_thread
        )
        self.processes = Processes(self.guest, self.memory, self.threads, self.records, self.shares, self.let_go.append)
        self.processes.create("kernel")
        idle = self.threads.create(self.records.processes[0], "idle", PRIORITY_IDLE, routine="idle")
        self.scheduler.state.idle = idle
        self.shell = self.processes.create("shell")
        self.records.shell = self.shell.number
        self.thread = self.new_thread(self.shell)
        self.scheduler.start(self.thread)

    def _reclaim(self, enough: Callable[[], bool]) -> bool:
        return self.reclaim(enough)  # a test may have replaced it

    def now(self, nanoseconds: int) -> None:
        """Set virtual time."""
        self.machine.clock.now = nanoseconds

    def new_thread(self, process: Process, priority: int = PRIORITY_USER) -> Thread:
        """Return a blocked thread of ring 3."""
        return self.threads.create_user(process, process.name, priority, 0x40_0000, 0xBFFF_0000)

    def new_process(self, name: str = "program", parent: int | None = None) -> Process:
        """Return a process without threads, a child of the shell unless said otherwise."""
        return self.processes.create(name, parent=self.shell.number if parent is None else parent)

    def run(self, thread: Thread) -> None:
        """Have `thread` be the current one."""
        self.scheduler.start(thread)

    def ready(self) -> list[Thread]:
        """Return the threads that are ready, the next one first."""
        return [thread for _, queue in sorted(self.scheduler.state.queues.items(), reverse=True) for thread in queue]

    def put_disk(self, place: int, *, sectors: int = 1024, generation: int = 1, present: bool = True) -> int:
        """Write what the driver knows of a disk; return the disk's key."""
        assert place < DISKS
        at = TABLES["disk_table"] + place * size_of(Disk)
        disk = Disk.from_buffer(self.guest.ram.view(at, size_of(Disk)))
        disk.present, disk.generation, disk.sectors = int(present), generation, sectors
        disk.model = (disk.model._type_ * len(disk.model))(*b"DISK".ljust(len(disk.model)))
        return generation << 8 | place

    def new_endpoint(self, name: str = "d0p1", *, disk: int = -1, sectors: int = 0, start: int = 0) -> EndpointState:
        """Return an endpoint that is served by a process without threads; its block is zeros."""
        number = len(self.endpoints.by_number)
        server = self.processes.create(f"hosted:{name}")
        server.endpoint = number
        endpoint = EndpointState(number, self.memory.cleared(), server, disk, start, sectors, name)
        self.endpoints.by_number[number] = endpoint
        return endpoint


@contextmanager
def refusal(code: ErrorCode) -> Iterator[None]:
    """Expect that policy refuses the call in the block, with `code`."""
    with pytest.raises(PolicyError) as refused:
        yield
    assert refused.value.code is code


Routine = Callable[[RoutineCall], RoutineResult | None]


def drive(policy: Coroutine[Any, Any, Any], **routines: Routine) -> tuple[Any, list[RoutineCall]]:
    """Run policy to its end; return its result and the routines of the kernel that it has awaited, in order.

    The routine that it ends with (`RoutineCall` as its result) is run and is the last of them.

    A routine calls the test's function for its name, and otherwise returns its registers, CF clear.
    """
    calls: list[RoutineCall] = []
    value: RoutineResult | None = None
    while True:
        try:
            call = policy.send(value)
        except StopIteration as stop:
            if isinstance(stop.value, RoutineCall):
                calls.append(stop.value)
                if stop.value.name in routines:
                    routines[stop.value.name](stop.value)
            return stop.value, calls
        calls.append(call)
        assert len(calls) < 1000, "policy awaits routines for ever"
        value = routines[call.name](call) if call.name in routines else None
        value = value or returned(call)


def returned(call: RoutineCall, *, failed: bool = False, **registers: int) -> RoutineResult:
    """Return the result of a routine: its registers as given, except those named, and CF."""
    names = ("eax", "ebx", "ecx", "edx", "esi", "edi")
    values = [registers.get(name, getattr(call, name)) for name in names]
    return RoutineResult(*values, eflags=CARRY if failed else 0)
