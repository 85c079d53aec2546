"""Processes: address space, programs, private memory; their making and their end."""

from __future__ import annotations

from collections.abc import Callable

from callgate.kernel.abi import limits, selectors
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.errors import CallerError, GivenUp, PolicyError, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import PRIORITY_USER, Process, Tasks, Thread, Window, WindowKind
from callgate.kernel.core.symbols import share
from callgate.kernel.machine.memory.outside import EndProcess
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.page_tables import TABLE_ENTRIES, USER_CODE, USER_DATA, USER_READ
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.user_memory import UserMemory
from callgate.kernel.programs.executable import Executable
from callgate.kernel.tasks.shares import Shares
from callgate.kernel.tasks.threads import Threads

ARGUMENTS_LIMIT = PAGE_SIZE - 1
INTERRUPTED_EXIT_CODE = 128 + 2
KILLED_EXIT_CODE = 128 + 9
FAULT_EXIT_CODE = 128 + 11


class Processes:
    """Creation, memory and destruction of processes."""

    def __init__(
        self,
        guest: Guest,
        memory: PhysicalMemory,
        threads: Threads,
        tasks: Tasks,
        shares: Shares,
        let_go: Callable[[Process], None],
    ) -> None:
        """`let_go` releases what a process that ends holds in other rooms: files, directories, windows."""
        self.guest = guest
        self.memory = memory
        self.threads = threads
        self.scheduler = threads.scheduler
        self.tasks = tasks
        self.shares = shares
        self.let_go = let_go
        self.load_observer: Callable[[Process, bytes], None] | None = None  # called with each program that is loaded

    def create(self, name: str, *, parent: int = 0) -> Process:
        """Make a process without threads; NO_MEMORY or NO_RESOURCES if a table is full, KILLED if its parent dies."""
        shares = self.shares
        if parent and (parent not in self.tasks.processes or self.tasks.processes[parent].dying):
            raise GivenUp(ErrorCode.KILLED, f"the parent, process {parent}, is dying")
        shares.check_process(parent)
        if parent in self.tasks.processes:
            shares.check_free(self.tasks.processes[parent], SPACE_FRAMES)
        if len(self.tasks.processes) >= selectors.MAX_PROCESSES:
            raise Shortage(ErrorCode.NO_RESOURCES)
        pointers, frames = self.memory.tables.new_space(self.memory.space)
        process = Process(self.tasks.next_process, name, pointers, parent, tables=list(frames))
        process.family = shares.family_of(process.number, parent)
        process.directory = self.tasks.processes[parent].directory if parent in self.tasks.processes else b""
        self.tasks.next_process += 1
        self.tasks.processes[process.number] = process
        return process

    def load(self, process: Process, program: Executable, arguments: bytes) -> int:
        """Copy a program into the process and give it a stack and its arguments; return the entry point."""
        if self.load_observer is not None:
            self.load_observer(process, program.image)
        process.symbols = share(program.image, (other.symbols for other in self.tasks.processes.values()))
        self.shares.check_frames(process, program.pages + LOAD_FRAMES)
        for segment in program.segments:
            flags = USER_CODE if segment.executable else USER_DATA if segment.writable else USER_READ
            self._load_segment(process, segment.address, segment.data, segment.memory_size, flags)
        if len(arguments) > ARGUMENTS_LIMIT:
            raise CallerError(ErrorCode.BAD_ARGUMENT, "command line too long")
        data = arguments + b"\0" + process.directory + b"\0"
        self._load_segment(process, layout.USER_ARGUMENTS, data, len(data), USER_READ)
        # The stack's first page is there from the start; the others come when they are touched.
        self.give_page(process, layout.USER_STACK_TOP - PAGE_SIZE, USER_DATA)
        return program.entry

    def start(self, process: Process, entry: int, *, priority: int = PRIORITY_USER) -> Thread:
        """Start the process's first thread."""
        thread = self.threads.create_user(process, process.name, priority, entry, layout.USER_STACK_TOP - 16)
        self.scheduler.wake(thread)
        return thread

    def memory_of(self, process: Process, touch: Callable[[int], None] | None = None) -> UserMemory:
        """Return the process's memory as policy may touch it; as its own Python may, if there is `touch`."""
        return UserMemory(self.guest.ram, self.memory.tables, process, self.provide, touch)

    def provide(self, process: Process, address: int) -> bool:
        """Give the process a page on demand, of its stack; False if `address` is not such a page."""
        page = address & -PAGE_SIZE
        if not layout.USER_STACK_TOP - layout.USER_STACK_SIZE <= page < layout.USER_STACK_TOP:
            return False
        if page in process.pages or process.dying:
            return False
        try:
            self.shares.check_frames(process, 2)
            self.give_page(process, page, USER_DATA)
        except PolicyError:
            return False
        return True

    def give_page(self, process: Process, address: int, flags: int) -> int:
        """Map a private, zero-filled page; return its frame."""
        frame = self.memory.low.allocate()
        self.memory.tables.clear(frame)
        try:
            self.memory.tables.map(process.pointers, address, frame, flags, process.tables)
        except OutOfMemory:
            self.memory.low.release(frame)
            raise
        process.pages[address] = frame
        return frame

    def allocate(self, process: Process, size: int) -> int:
        """Return the address of `size` bytes of new, zero-filled, page-aligned memory."""
        pages = -(-size // PAGE_SIZE)
        if not 0 < pages <= (layout.USER_FILES - layout.USER_HEAP) // PAGE_SIZE:
            raise CallerError(ErrorCode.BAD_ARGUMENT)
        self.shares.check_frames(process, pages + pages // TABLE_ENTRIES + 2)
        address = self._find_heap(process, pages)
        frames = self.memory.low.allocate_several(pages)
        for page in frames:
            self.memory.tables.clear(page)
        try:
            self.memory.tables.map_run(process.pointers, address, frames, USER_DATA, process.tables)
        except OutOfMemory:
            self.memory.tables.unmap_run(process.pointers, address, pages)
            for frame in frames:
                self.memory.low.release(frame)
            raise
        process.pages.update(zip(range(address, address + pages * PAGE_SIZE, PAGE_SIZE), frames, strict=True))
        process.windows[address] = Window(address, pages, WindowKind.HEAP)
        return address

    def free(self, process: Process, address: int) -> None:
        """Give back what `allocate` returned; BAD_ADDRESS if it did not."""
        window = process.windows.get(address)
        if window is None or window.kind != WindowKind.HEAP:
            raise CallerError(ErrorCode.BAD_ADDRESS)
        self._take_piece(process, window)
        self.guest.flush_tlb()

    def _take_piece(self, process: Process, window: Window) -> None:
        """Unmap a piece of memory and drop its pages, which others may still hold; the caller flushes the TLB."""
        end = window.address + window.pages * PAGE_SIZE
        self.memory.tables.unmap_run(process.pointers, window.address, window.pages)
        for address in range(window.address, end, PAGE_SIZE):
            self.memory.low.release(process.pages.pop(address))
        del process.windows[window.address]

    def kill(self, process: Process, exit_code: int, reason: str = "") -> None:
        """Have every thread of the process die; it is cleaned up when the last one has.

        The first reason counts. A process is given nothing new from then on: `Threads.create` makes no thread in it,
        `create` no child of it, and calls of its threads are refused (`SystemCalls.host_system`).
        """
        if not process.dying:
            process.dying = True
            process.exit_code = exit_code
            process.fault = process.fault or reason
        for thread in list(process.threads):
            self.threads.kill(thread)

    def end_by_hand(self, process: Process) -> None:
        """Have a process die as a debugger wishes, which comes from outside and is told so."""
        self.guest.machine.outside(EndProcess(process.number))
        self.kill(process, KILLED_EXIT_CODE, "killed by the debugger")

    def host_input(self, broken: int) -> None:
        """INPUT: wake every thread that waits for the console; a break ends the foreground process first."""
        if broken:
            self.guest.kernel_words["console_break"] = self.interrupt()
        for thread in list(self.tasks.threads.values()):
            if self.waits_for_input(thread):
                self.scheduler.wake(thread)

    def waits_for_input(self, thread: Thread) -> bool:
        """Whether a thread waits for the console."""
        return self.scheduler.reason_of(thread) is WaitReason.INPUT

    def interrupt(self) -> int:
        """Kill the foreground process; return the number of its parent, which sees TAKE_BREAK, or 0 for none.

        The foreground process is the youngest descendant of the shell that has not ended. If the shell is at its
        prompt, it is the youngest orphan that waits for the console: it consumes the shell's input, and has no parent
        that could end it. Otherwise the shell itself sees the break, and no longer waits for a server.
        """
        number = self.tasks.shell
        while children := [
            child for child in self.tasks.processes.values() if child.parent == number > 0 and not child.dying
        ]:
            number = max(child.number for child in children)
        shell = self.tasks.processes.get(self.tasks.shell)
        if number == self.tasks.shell and (shell is None or self.shell_reads):
            number = max(filter(self._orphan_reads, self.tasks.processes), default=number)
        if number == self.tasks.shell:
            self._call_back(self.tasks.processes.get(number))
            return max(number, 0)
        self.kill(self.tasks.processes[number], INTERRUPTED_EXIT_CODE, "interrupted")
        return self.tasks.processes[number].parent

    @property
    def shell_reads(self) -> bool:
        """Whether it is the shell itself that waits for input."""
        shell = self.tasks.processes.get(self.tasks.shell)
        return shell is not None and any(map(self.waits_for_input, shell.threads))

    def _orphan_reads(self, number: int) -> bool:
        """Whether a process lives, waits for the console, and is neither the shell nor a child of a living process."""
        process = self.tasks.processes[number]
        orphaned = process.parent == 0 and process.number != self.tasks.shell and process.endpoint < 0
        return orphaned and not process.dying and any(map(self.waits_for_input, process.threads))

    def _call_back(self, process: Process | None) -> None:
        """Have a process's waits for servers end, the present ones or each thread's next."""
        for thread in process.threads if process is not None else ():
            self.threads.interrupt(thread)

    def clean_up(self, process: Process) -> None:
        """Release all that a process without running threads holds, except page tables."""
        if process.exit_code is None:
            process.exit_code = 0
        self.let_go(process)
        for piece in [window for window in process.windows.values() if window.kind == WindowKind.HEAP]:
            self._take_piece(process, piece)
        for address in list(process.pages):
            self.memory.tables.unmap(process.pointers, address)
            self.memory.low.release(process.pages.pop(address))
        self.guest.flush_tlb()
        self.tasks.finished.append(process.number)
        waiter = self.tasks.threads.get(process.waiter)
        if waiter is not None:
            self.scheduler.wake(waiter)
        for child in [other for other in self.tasks.processes.values() if other.parent == process.number]:
            child.parent = 0

    def discard(self, process: Process) -> None:
        """Undo a process whose program could not be loaded; it has no threads."""
        for address in list(process.pages):
            self.memory.tables.unmap(process.pointers, address)
            self.memory.low.release(process.pages.pop(address))
        self.tasks.finished.append(process.number)
        self.reap(process)

    def reap(self, process: Process) -> int:
        """Forget a process that has ended; return its exit code.  Not while its tables are loaded."""
        for frame in process.tables:
            self.memory.low.release(frame)
        del self.tasks.processes[process.number]
        self.tasks.finished.remove(process.number)
        return process.exit_code or 0

    def _load_segment(self, process: Process, address: int, data: bytes | memoryview, size: int, flags: int) -> None:
        first = address & -PAGE_SIZE
        for page in range(first, address + size, PAGE_SIZE):
            frame = self.give_page(process, page, flags)
            start = max(page, address)
            piece = data[start - address : page + PAGE_SIZE - address]
            self.guest.ram.view(frame + start - page, len(piece))[:] = piece
            if flags == USER_CODE:
                self.guest.machine.code_changed(frame, PAGE_SIZE)

    def _find_heap(self, process: Process, pages: int) -> int:
        """First fit above the heap's start.  NO_RESOURCES if the process has as many pieces as it may have."""
        address = layout.USER_HEAP
        pieces = {at: window.pages for at, window in process.windows.items() if window.kind is WindowKind.HEAP}
        if len(pieces) >= limits.ALLOCATIONS_OF_PROCESS:
            raise Shortage(ErrorCode.NO_RESOURCES, f"{len(pieces)} pieces of memory")
        for begin in sorted(pieces):
            if begin - address >= pages * PAGE_SIZE:
                break
            address = begin + pieces[begin] * PAGE_SIZE
        if address + pages * PAGE_SIZE > layout.USER_FILES:
            raise Shortage(ErrorCode.NO_MEMORY)
        return address


SPACE_FRAMES = 4  # of an empty address space: pointers, three directories
LOAD_FRAMES = 7  # of a program beside its segments: arguments, stack, page tables for both and for the program
