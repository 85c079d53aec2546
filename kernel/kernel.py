"""The kernel: policy's managers around one machine, and the host calls that reach them.

Each manager is a concept with its own module; what they share lies here: low memory as words, the
symbols of the kernel image, and the records in `state`, which a snapshot pickles whole.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import (
    HOST_CALL_FIRST,
    SERVER_CALL_FIRST,
    HostCall,
    ServerCall,
    SystemCall,
    WaitReason,
)
from callgate.kernel.abi.disk import DISKS, Disk
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import Layout, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.selectors import GDT_FIRST_PARTITION, GDT_FIRST_THREAD
from callgate.kernel.abi.thread import (
    KERNEL_STACK_SIZE,
    TCB_SIZE,
    KernelWords,
    LedgerInformation,
    ThreadControlBlock,
    ThreadFlags,
    ThreadState,
)
from callgate.kernel.address_space import PageTables
from callgate.kernel.cache import Cache
from callgate.kernel.changed_blocks import ChangedBlocks
from callgate.kernel.check_dma import DmaWatch
from callgate.kernel.checks import check
from callgate.kernel.control import ControlBlock, word
from callgate.kernel.coroutines import Coroutines
from callgate.kernel.descriptor_tables import GlobalTable, call_gate
from callgate.kernel.directories import Directories
from callgate.kernel.errors import KernelPanic, PolicyError
from callgate.kernel.executable import Executable, parse_elf
from callgate.kernel.faults import Fault, Faults
from callgate.kernel.file_ageing import FileAgeing
from callgate.kernel.file_windows import FileWindows
from callgate.kernel.file_writing import FileWriting
from callgate.kernel.files import Files
from callgate.kernel.fills import Fills
from callgate.kernel.fpu import FloatingPointUnit
from callgate.kernel.give_backs import GiveBacks
from callgate.kernel.hosted import Hosted
from callgate.kernel.images import program_image
from callgate.kernel.ipc import Ipc
from callgate.kernel.log import Log
from callgate.kernel.mounting import Mounting
from callgate.kernel.plugging import Plugging
from callgate.kernel.processes import KILLED_EXIT_CODE, Processes
from callgate.kernel.records import Process, Thread
from callgate.kernel.requests import Requests
from callgate.kernel.scheduler import Scheduler
from callgate.kernel.server_calls import ServerCalls
from callgate.kernel.servers import Servers
from callgate.kernel.shares import Shares
from callgate.kernel.state import KernelState
from callgate.kernel.symbols import Symbols, symbol_of
from callgate.kernel.system_calls import SystemCalls
from callgate.kernel.threads import Threads
from callgate.kernel.volumes import Volumes
from callgate.kernel.windows import Windows

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Machine

DISK_GENERATION_SHIFT = 8
DISK_NUMBER_MASK = 0xFF
TCB_FLAGS = word(ThreadControlBlock, "flags")
Answer = Callable[[int], Coroutine[Any, Any, None] | None]
# SYSTEM and SERVER stand for many calls, each counted as a host call of its own: "system.open", "server.hosted_step".
CALL_NAMES: dict[HostCall, dict[int, str]] = {
    HostCall.SYSTEM: {call: f"system.{call.name.lower()}" for call in SystemCall},
    HostCall.SERVER: {call: f"server.{call.name.lower()}" for call in ServerCall},
}


class Kernel:
    """Policy of one machine.  `boot` in `callgate.kernel.system` makes and starts it."""

    def __init__(
        self,
        machine: Machine,
        image: Program,
        state: KernelState,
        log: Callable[[str], None],
        urgent: Callable[[str], None] | None = None,
    ) -> None:
        """Take the machine, the assembled kernel, records in which memory is free, and where messages for people go."""
        self.machine = machine
        self.image = image
        self.state = state
        self.low = state.low
        self.high = state.high
        self.log = Log(self, log, urgent)
        low = machine.ram.low
        self.words = low.cast("I")
        self.quads = low.cast("Q")
        self.exit_code: int | None = None
        self.scratch = False  # programs may write to file data in memory, which never gets to a disk
        self.map_edges = False  # map pages that hold other data as well, instead of copying (leaks neighbours)
        words = (self.address("kernel_words") - KERNEL_BASE) // 4
        self.kernel_words = ControlBlock(self.words, KernelWords, words)
        self.gdt = GlobalTable(machine.ram, self.address("gdt") - KERNEL_BASE)
        self.tables = PageTables(self.quads, state.low, self._count_ptes)
        self.scheduler = Scheduler(
            self.words,
            words,
            lambda: machine.clock.now,
            machine.state,
            self._count_wait,
            state.scheduler,
            state.tasks,
        )
        self.coroutines = Coroutines(self.words, self.address, lambda: self.scheduler.current.tcb)
        self.fpu = FloatingPointUnit(self)
        self.shares = Shares(self)
        self.symbols = Symbols(self)
        self.threads = Threads(self)
        self.processes = Processes(self)
        self.ipc = Ipc(self)
        self.cache = Cache(self)
        self.changed_blocks = ChangedBlocks(self)
        self.requests = Requests(self)
        self.windows = Windows(self)
        self.fills = Fills(self)
        self.file_windows = FileWindows(self)
        self.file_writing = FileWriting(self)
        self.file_ageing = FileAgeing(self)
        self.give_backs = GiveBacks(self)
        self.files = Files(self)
        self.directories = Directories(self)
        self.volumes = Volumes(self)
        self.mounting = Mounting(self)
        self.plugging = Plugging(self)
        self.servers = Servers(self)
        self.hosted = Hosted(self)
        self.faults = Faults(self)
        self.system_calls = SystemCalls(self)
        self.server_calls = ServerCalls(self)
        self.dma = DmaWatch(self)
        self.jobs: dict[int, Callable[[], Coroutine[Any, Any, None]]] = {}

    # Host calls.

    def register(self) -> None:
        """Answer the host calls of the kernel image."""
        plain: dict[HostCall, Callable[[int], None]] = {
            HostCall.BOOT_DONE: self.host_boot_done,
            HostCall.PANIC: self.host_panic,
            HostCall.SCHEDULE: self.scheduler.host_schedule,
            HostCall.WAKE: self.scheduler.host_wake,
            HostCall.HANDOFF: self.scheduler.host_handoff,
            HostCall.TICK: self.scheduler.host_tick,
            HostCall.YIELD: self.scheduler.host_yield,
            HostCall.RESUME: self.coroutines.host_resume,
            HostCall.FIRST_USE: self.ipc.host_first_use,
            HostCall.SLOT_WAIT: self.ipc.host_slot_wait,
            HostCall.SLOT_GIVE: self.ipc.host_slot_give,
            HostCall.SLOT_DROP: self.ipc.host_slot_drop,
            HostCall.SLOT_FAIL: self.ipc.host_slot_fail,
            HostCall.DISK_DONE: self.cache.host_disk_done,
            HostCall.DISK_CHANGED: self.plugging.host_disk_changed,
            HostCall.DISK_WATCHED: self.plugging.host_disk_watched,
            HostCall.FILE_READY: self.fills.host_file_ready,
            HostCall.INPUT: self.host_input,
            HostCall.EXIT_THREAD: self.host_exit_thread,
        }
        awaitable: dict[HostCall, Answer] = {
            HostCall.EXCEPTION: self.faults.host_exception,
            HostCall.SYSTEM: self.system_calls.host_system,
            HostCall.SERVER: self.server_calls.host_server,
            HostCall.CONVERT: self.ipc.convert,
            HostCall.JOB: self.host_job,
            HostCall.FILES_AGE: self.file_ageing.host_files_age,
            HostCall.GIVE_BACK: self.give_backs.host_give_back,
        }
        for call, answer in plain.items():
            self.machine.host_calls.register(call, answer, call.name.lower())
        for call, answer_later in awaitable.items():
            names = CALL_NAMES.get(call)
            self.machine.host_calls.register(call, self._await(answer_later), call.name.lower(), names)

    def _await(self, answer: Answer) -> Callable[[int], None]:
        """Turn an answer that may be a coroutine into one that starts it."""

        def call(value: int) -> None:
            waiting = answer(value)
            if waiting is not None:
                self.coroutines.start(waiting)

        return call

    def host_boot_done(self, _value: int) -> None:
        """BOOT_DONE: paging is on and the drivers are ready; threads come next."""
        self.machine.ledger.settle_boot()

    def host_panic(self, value: int) -> None:
        """PANIC: machine code found the kernel in a state that cannot be."""
        raise KernelPanic(f"the kernel gave up, code {value:#x}, at {self.image.symbol_at(self.machine.cpu.eip)}")

    def host_input(self, broken: int) -> None:
        """INPUT: wake every thread that waits for the console; a break ends the foreground process first."""
        if broken:
            self.kernel_words["console_break"] = self.processes.interrupt()
        for thread in list(self.state.tasks.threads.values()):
            if thread.wait_reason == WaitReason.INPUT:
                self.scheduler.wake(thread)

    def host_exit_thread(self, _value: int) -> None:
        """EXIT_THREAD: end the current thread; with the last one its process is cleaned up.

        Nothing here waits: whatever servers do, a killed thread is gone when this has been answered.
        """
        thread = self.scheduler.current
        process = thread.process
        self.hosted.forget(thread)
        self.words[thread.tcb + TCB_FLAGS] &= ~ThreadFlags.KILLED
        if process.partition >= 0:
            self.server_thread_ended(thread, process)
        if len(process.threads) == 1:
            self.processes.clean_up(process)
        self.threads.reap()
        self.threads.finish(thread)
        self.reap_orphans()
        self.scheduler.choose()

    def reap_orphans(self) -> None:
        """Forget ended processes that nobody will wait for; the shell's end is the system's."""
        for number in list(self.state.tasks.finished):
            process = self.state.tasks.processes[number]
            if number == self.state.tasks.shell:
                self.exit_code = process.exit_code or 0
                self.give_backs.end()
            elif process.parent == 0 and not process.threads and process is not self.scheduler.current.process:
                self.processes.reap(process)

    def stop(self) -> None:
        """Stop the machine: the shell has ended."""
        self.log.finish()
        self.machine.request_stop("exit", self.exit_code)

    def check_wait(self, thread: Thread) -> None:
        """Raise KILLED or INTERRUPTED if `thread` must not wait for a server (any longer); an interrupt counts once."""
        if thread.killed:
            raise PolicyError(ErrorCode.KILLED)
        if self.words[thread.tcb + TCB_FLAGS] & ThreadFlags.INTERRUPTED:
            self.clear_interrupt(thread)
            raise PolicyError(ErrorCode.INTERRUPTED)

    def clear_interrupt(self, thread: Thread) -> None:
        """An interrupt has been told of."""
        self.words[thread.tcb + TCB_FLAGS] &= ~ThreadFlags.INTERRUPTED & 0xFFFF_FFFF

    async def host_job(self, number: int) -> None:
        """JOB: run the job of a kernel thread."""
        await self.jobs.pop(number)()

    # Servers and programs.

    def kill_server(self, process: Process, reason: str, details: Sequence[str] = ()) -> None:
        """End a server process: its requests fail, its volume is gone, other volumes live on.

        `details` are lines of the log that belong to the reason.
        """
        partition = self.state.ipc.partitions[process.partition]
        if not partition.dead:
            partition.reason = reason
            lines = [f"/{partition.name}: server ended: {reason}", *(f"  {line}" for line in details)]
            self.mounting.say_of(partition.name, lines, process, urgent=True)
            self.ipc.die(partition, ErrorCode.SERVER_DIED)
        self.processes.kill(process, KILLED_EXIT_CODE, reason)

    def server_thread_ended(self, thread: Thread, process: Process) -> None:
        """A server thread has died: without it nobody answers what it was given, so all of them do."""
        self.kill_server(process, process.fault or f"thread {thread.number} ended")
        if len(process.threads) == 1:
            self.ipc.sweep(self.state.ipc.partitions[process.partition])

    async def start_program(self, path: bytes, address: int, arguments: bytes, *, parent: int) -> Process:
        """Start the program at an absolute path that also lies at kernel address `address`."""
        partition, rest = self.volumes.resolve(path)
        if partition is None:
            raise PolicyError(ErrorCode.IS_DIRECTORY)
        where = (address + len(path) - len(rest), len(rest))
        image = await self.files.read_all(partition, where, limits.PROGRAM_BYTES, parent)
        return self.start_image(
            parse_elf(image), rest.rpartition(b"/")[2].decode("utf-8", "replace"), arguments, parent
        )

    def start_image(self, program: Executable, name: str, arguments: bytes, parent: int) -> Process:
        """Start a program that is in hand."""
        process = self.processes.create(name, parent=parent)
        try:
            entry = self.processes.load(process, program, arguments)
            self.processes.start(process, entry)
        except PolicyError:
            self.processes.discard(process)
            raise
        return process

    async def start_shell(self, arguments: bytes) -> None:
        """Start /rom/shell; the system ends with it."""
        program = parse_elf(program_image("shell").elf(debug=False, labels=True))
        process = self.start_image(program, "shell", arguments, 0)
        process.program = "shell"
        self.state.tasks.shell = process.number

    @property
    def shell_reads(self) -> bool:
        """Whether it is the shell itself that waits for input."""
        shell = self.state.tasks.processes.get(self.state.tasks.shell)
        waiting = shell.threads if shell else []
        return any(one.state == ThreadState.BLOCKED and one.wait_reason == WaitReason.INPUT for one in waiting)

    def check(self) -> list[str]:
        """Return what contradicts the kernel's invariants now, in words (kernel/checks.py); costs about 10 ms."""
        return check(self)

    # What managers share.

    def address(self, name: str) -> int:
        """Return the linear address of a symbol of the kernel image."""
        return self.image.address(name)

    def overlay_stack(self, thread: Thread, layout: type[Layout], linear: int) -> ControlBlock:
        """Return a structure on a thread's kernel stack."""
        index = thread.selector // 8 - GDT_FIRST_THREAD
        offset = linear - (thread.stack + TCB_SIZE - KERNEL_STACK_SIZE)
        frame = self.state.tasks.stack_frames[index][offset // PAGE_SIZE]
        return ControlBlock(self.words, layout, (frame + offset % PAGE_SIZE) // 4)

    def flush_tlb(self) -> None:
        """Forget every translation, after policy took a mapping away."""
        self.machine.flush_tlb()
        self.machine.ledger.extra["tlb_invalidations"] += 1

    def zero_frame(self) -> int:
        """Return the page of zeros that stands for holes of files; nobody may write to it."""
        if not self.state.space.zeros:
            self.state.space.zeros = self.low.allocate()
            self.tables.clear(self.state.space.zeros)
        return self.state.space.zeros

    def unpin(self, pins: list[tuple[str, int, int]]) -> None:
        """Let go of frames and cache blocks that a reply or a window held."""
        for kind, first, second in pins:
            if kind == "frame":
                self.low.release(first)
            else:
                self.cache.unlock([(first, second)])

    def ledger_totals(self) -> LedgerInformation:
        """Return the run's counters as SystemCall.LEDGER gives them out."""
        counts = self.machine.ledger.counts()
        totals = {
            "guest_instructions": counts.guest_instructions,
            "ring0_instructions": counts.ring0,
            "ring3_instructions": counts.ring3,
            "host_calls": counts.host_call_count,
            "cr3_loads": counts.cr3_loads,
            "pte_writes": counts.pte_writes,
            "tlb_invalidations": counts.tlb_invalidations,
            "ring_changes": counts.ring_changes,
            "exceptions": sum(counts.exceptions.values()),
            "interrupts": sum(counts.interrupts.values()),
            "dma_bytes": sum(counts.dma_bytes.values()),
            "cpu_file_bytes": sum(counts.cpu_file_bytes.values()),
            "blocking_waits": counts.blocking_waits,
            "requests": counts.requests,
            "metadata_bytes": counts.metadata_bytes,
            "program_bytes": counts.program_bytes,
            "server_bytes": counts.server_bytes,
            "inflated_bytes": counts.inflated_bytes,
        }
        information = LedgerInformation(**totals)
        for call in HostCall:
            information.host_call[call - HOST_CALL_FIRST] = counts.host_calls.get(call.name.lower(), 0)
        for number, name in CALL_NAMES[HostCall.SYSTEM].items():
            information.system_call[number] = counts.host_calls.get(name, 0)
        for number, name in CALL_NAMES[HostCall.SERVER].items():
            if number >= SERVER_CALL_FIRST:
                information.server_call[number - SERVER_CALL_FIRST] = counts.host_calls.get(name, 0)
        return information

    def put_server_gate(self, ldt: int) -> None:
        """Give a process the gate that serves servers: entry 1 of its LDT, whose frame is `ldt`."""
        self.machine.ram.put_u64(ldt + 8, call_gate(self.address("server_gate")))

    def disks(self) -> list[int]:
        """Return the numbers of the places where a disk is present."""
        return [number for number in range(DISKS) if self._disk(number).present]

    def disk_key(self, number: int) -> int:
        """Return what names a disk that is in place `number` now, and no other that ever was or will be there."""
        return int(self._disk(number).generation) << DISK_GENERATION_SHIFT | number

    def disk_there(self, key: int) -> bool:
        """Whether the disk that `key` names is still in its place."""
        number = key & DISK_NUMBER_MASK
        return bool(self._disk(number).present) and self.disk_key(number) == key

    def disk_sectors(self, key: int) -> int:
        """Return the size of a disk in 512-byte sectors."""
        return int(self._disk(key & DISK_NUMBER_MASK).sectors)

    def disk_model(self, number: int) -> str:
        """Return the model that a disk names itself."""
        return bytes(self._disk(number & DISK_NUMBER_MASK).model).rstrip(b" \0").decode("ascii", "replace")

    def _disk(self, number: int) -> Disk:
        at = self.address("disk_table") - KERNEL_BASE + number * size_of(Disk)
        return Disk.from_buffer(self.machine.ram.view(at, size_of(Disk)))

    def fault_report(self, process: Process | None, fault: Fault) -> list[str]:
        """Return the lines of a report: registers and instructions around a fault, with symbols."""
        rows = [" ".join(f"{name}={value:08x}" for name, value in fault.registers.items())]
        name = partial(symbol_of, process.symbols) if process else self.image.symbol_at
        rows.extend(self.machine.disassemble(fault.eip, 3, name))
        return [f"  {row}" for row in rows]

    def release(self) -> None:
        """End policy that is under way, and let go of the views of guest memory, so that it can be unmapped."""
        self.coroutines.close()
        self.words.release()
        self.quads.release()

    def _count_wait(self, reason: int, woken: Thread | None) -> None:
        """Count a wait; one for a reply also in the partition, which GS names unless its server is woken by the way."""
        self.machine.ledger.blocking_waits += 1
        if reason == WaitReason.REPLY:
            number = woken.process.partition if woken else self.machine.cpu.gs // 8 - GDT_FIRST_PARTITION
            partition = self.state.ipc.partitions.get(number)
            if partition is not None:
                self.ipc.count_wait(partition)

    def _count_ptes(self, number: int) -> None:
        self.machine.ledger.extra["pte_writes"] += number
