"""Processes: address space, LDT, programs, private memory; their making and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi import limits, selectors
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.thread import ThreadControlBlock, ThreadFlags, ThreadState
from callgate.kernel.address_space import TABLE_ENTRIES, USER_CODE, USER_DATA, USER_READ
from callgate.kernel.control import word
from callgate.kernel.errors import PolicyError
from callgate.kernel.executable import Executable
from callgate.kernel.frames import OutOfMemory
from callgate.kernel.records import PRIORITY_USER, Process, Thread, Window
from callgate.kernel.user_memory import UserMemory

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

TCB_FLAGS = word(ThreadControlBlock, "flags")
ARGUMENTS_LIMIT = PAGE_SIZE - 1
INTERRUPTED_EXIT_CODE = 128 + 2
KILLED_EXIT_CODE = 128 + 9
FAULT_EXIT_CODE = 128 + 11


class Processes:
    """Creation, memory and destruction of processes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def create(self, name: str, *, parent: int = 0, server: bool = False) -> Process:
        """Make a process without threads; NO_MEMORY or NO_RESOURCES if a table is full, KILLED if its parent dies."""
        state, shares = self.kernel.state, self.kernel.shares
        if parent and (parent not in state.tasks.processes or state.tasks.processes[parent].dying):
            raise PolicyError(ErrorCode.KILLED, f"the parent, process {parent}, is dying")
        shares.check_process(parent)
        if parent in state.tasks.processes:
            shares.check_free(state.tasks.processes[parent], SPACE_FRAMES)
        elif self.kernel.low.available < SPACE_FRAMES:
            raise OutOfMemory
        index = self._take_ldt_index()
        pointers, frames = self.kernel.tables.new_space(state.space)
        ldt = self.kernel.tables.new_table()
        process = Process(state.tasks.next_process, name, pointers, index, parent, tables=[*frames, ldt])
        process.family = shares.family_of(process.number, parent)
        process.directory = state.tasks.processes[parent].directory if parent in state.tasks.processes else b""
        state.tasks.next_process += 1
        state.tasks.processes[process.number] = process
        self.kernel.gdt.put_ldt(index * 8, KERNEL_BASE + ldt, selectors.LDT_ENTRIES * 8 - 1)
        if server:
            self.kernel.put_server_gate(ldt)
        return process

    def load(self, process: Process, program: Executable, arguments: bytes) -> int:
        """Copy a program into the process and give it a stack and its arguments; return the entry point."""
        process.symbols = self.kernel.symbols.share(program.image)
        self.kernel.shares.check_frames(process, program.pages + LOAD_FRAMES)
        for segment in program.segments:
            flags = USER_CODE if segment.executable else USER_DATA if segment.writable else USER_READ
            self._load_segment(process, segment.address, segment.data, segment.memory_size, flags)
        if len(arguments) > ARGUMENTS_LIMIT:
            raise PolicyError(ErrorCode.BAD_ARGUMENT, "command line too long")
        data = arguments + b"\0" + process.directory + b"\0"
        self._load_segment(process, layout.USER_ARGUMENTS, data, len(data), USER_READ)
        # The stack's first page is there from the start; the others come when they are touched.
        self.give_page(process, layout.USER_STACK_TOP - PAGE_SIZE, USER_DATA)
        return program.entry

    def start(self, process: Process, entry: int, *, priority: int = PRIORITY_USER) -> Thread:
        """Start the process's first thread."""
        thread = self.kernel.threads.create_user(process, process.name, priority, entry, layout.USER_STACK_TOP - 16)
        self.kernel.scheduler.wake(thread)
        return thread

    def memory(self, process: Process) -> UserMemory:
        """Return the process's memory as policy may touch it."""
        return UserMemory(self.kernel, process)

    def give_page(self, process: Process, address: int, flags: int) -> int:
        """Map a private, zero-filled page; return its frame."""
        frame = self.kernel.low.allocate()
        self.kernel.tables.clear(frame)
        try:
            self.kernel.tables.map(process.pointers, address, frame, flags, process.tables)
        except OutOfMemory:
            self.kernel.low.release(frame)
            raise
        process.pages[address] = frame
        return frame

    def allocate(self, process: Process, size: int) -> int:
        """Return the address of `size` bytes of new, zero-filled, page-aligned memory."""
        pages = -(-size // PAGE_SIZE)
        if not 0 < pages <= (layout.USER_FILES - layout.USER_HEAP) // PAGE_SIZE:
            raise PolicyError(ErrorCode.BAD_ARGUMENT)
        self.kernel.shares.check_frames(process, pages + pages // TABLE_ENTRIES + 2)
        address = self._find_heap(process, pages)
        frames = self.kernel.low.allocate_several(pages)
        for page in frames:
            self.kernel.tables.clear(page)
        try:
            self.kernel.tables.map_run(process.pointers, address, frames, USER_DATA, process.tables)
        except OutOfMemory:
            self.kernel.tables.unmap_run(process.pointers, address, pages)
            for frame in frames:
                self.kernel.low.release(frame)
            raise
        process.pages.update(zip(range(address, address + pages * PAGE_SIZE, PAGE_SIZE), frames, strict=True))
        process.windows[address] = Window(address, pages, "heap")
        return address

    def free(self, process: Process, address: int) -> None:
        """Give back what `allocate` returned; BAD_ADDRESS if it did not."""
        window = process.windows.get(address)
        if window is None or window.kind != "heap":
            raise PolicyError(ErrorCode.BAD_ADDRESS)
        self._take_piece(process, window)
        self.kernel.flush_tlb()

    def _take_piece(self, process: Process, window: Window) -> None:
        """Unmap a piece of memory and drop its pages, which others may still hold; the caller flushes the TLB."""
        end = window.address + window.pages * PAGE_SIZE
        self.kernel.tables.unmap_run(process.pointers, window.address, window.pages)
        for address in range(window.address, end, PAGE_SIZE):
            self.kernel.low.release(process.pages.pop(address))
        del process.windows[window.address]

    def kill(self, process: Process, exit_code: int, reason: str = "") -> None:
        """Have every thread of the process die; it is cleaned up when the last one has.

        The first reason counts.  Nothing new comes to a process from then on: `Threads.create` makes no thread in it,
        `create` no child of it, and calls of its threads are refused (`SystemCalls.host_system`).
        """
        if not process.dying:
            process.dying = True
            process.exit_code = exit_code
            process.fault = process.fault or reason
        for thread in list(process.threads):
            self.kernel.threads.kill(thread)

    def interrupt(self) -> int:
        """End the process that Ctrl-C is for; return the number of the one that is to be told, 0 for nobody.

        It is the shell's youngest child that has not ended, that one's youngest child, and so on to the last; its
        parent is told.  If the shell is at its prompt, it is an orphan that waits for the console, the youngest first:
        it takes the shell's input away, and nobody else can end it.  Otherwise the shell is told itself, and does not
        wait for a server any longer.
        """
        state = self.kernel.state
        number = state.tasks.shell
        while children := [
            child for child in state.tasks.processes.values() if child.parent == number > 0 and not child.dying
        ]:
            number = max(child.number for child in children)
        shell = state.tasks.processes.get(state.tasks.shell)
        if number == state.tasks.shell and (shell is None or any(map(waits_for_input, shell.threads))):
            number = max(filter(self._orphan_reads, state.tasks.processes), default=number)
        if number == state.tasks.shell:
            self._call_back(state.tasks.processes.get(number))
            return max(number, 0)
        self.kill(state.tasks.processes[number], INTERRUPTED_EXIT_CODE, "interrupted")
        return state.tasks.processes[number].parent

    def _orphan_reads(self, number: int) -> bool:
        """Whether a process lives, waits for the console, and is neither the shell nor anybody's child."""
        process = self.kernel.state.tasks.processes[number]
        orphaned = process.parent == 0 and process.number != self.kernel.state.tasks.shell and process.partition < 0
        return orphaned and not process.dying and any(map(waits_for_input, process.threads))

    def _call_back(self, process: Process | None) -> None:
        """Have a process's waits for servers end, the present ones or each thread's next."""
        for thread in process.threads if process is not None else ():
            self.kernel.words[thread.tcb + TCB_FLAGS] |= ThreadFlags.INTERRUPTED
            self.kernel.scheduler.wake(thread)

    def clean_up(self, process: Process) -> None:
        """Let go of everything that a process without running threads holds, page tables excepted."""
        kernel = self.kernel
        if process.exit_code is None:
            process.exit_code = 0
        kernel.directories.unlock_all(process)
        kernel.files.close_all(process)
        kernel.windows.close_all(process)
        kernel.hosted.end_process(process)
        for piece in [window for window in process.windows.values() if window.kind == "heap"]:
            self._take_piece(process, piece)
        for address in list(process.pages):
            kernel.tables.unmap(process.pointers, address)
            kernel.low.release(process.pages.pop(address))
        kernel.flush_tlb()
        kernel.state.tasks.finished.append(process.number)
        waiter = kernel.state.tasks.threads.get(process.waiter)
        if waiter is not None:
            kernel.scheduler.wake(waiter)
        for child in [other for other in kernel.state.tasks.processes.values() if other.parent == process.number]:
            child.parent = 0

    def discard(self, process: Process) -> None:
        """Take back a process whose program could not be loaded; it has no threads."""
        for address in list(process.pages):
            self.kernel.tables.unmap(process.pointers, address)
            self.kernel.low.release(process.pages.pop(address))
        self.kernel.state.tasks.finished.append(process.number)
        self.reap(process)

    def reap(self, process: Process) -> int:
        """Forget a process that has ended; return its exit code.  Not while its tables are loaded."""
        for frame in process.tables:
            self.kernel.low.release(frame)
        self.kernel.gdt.clear(process.ldt_index * 8)
        self.kernel.state.tasks.free_ldt_slots.append(process.ldt_index)
        del self.kernel.state.tasks.processes[process.number]
        self.kernel.state.tasks.finished.remove(process.number)
        return process.exit_code or 0

    def _load_segment(self, process: Process, address: int, data: bytes | memoryview, size: int, flags: int) -> None:
        first = address & -PAGE_SIZE
        for page in range(first, address + size, PAGE_SIZE):
            frame = self.give_page(process, page, flags)
            start = max(page, address)
            piece = data[start - address : page + PAGE_SIZE - address]
            self.kernel.machine.ram.view(frame + start - page, len(piece))[:] = piece
            if flags == USER_CODE:
                self.kernel.machine.code_changed(frame, PAGE_SIZE)

    def _find_heap(self, process: Process, pages: int) -> int:
        """First fit above the heap's start.  NO_RESOURCES if the process has as many pieces as it may have."""
        address = layout.USER_HEAP
        pieces = sorted((w for w in process.windows.values() if w.kind == "heap"), key=lambda w: w.address)
        if len(pieces) >= limits.ALLOCATIONS_OF_PROCESS:
            raise PolicyError(ErrorCode.NO_RESOURCES, f"{len(pieces)} pieces of memory")
        for window in pieces:
            if window.address - address >= pages * PAGE_SIZE:
                break
            address = window.address + window.pages * PAGE_SIZE
        if address + pages * PAGE_SIZE > layout.USER_FILES:
            raise PolicyError(ErrorCode.NO_MEMORY)
        return address

    def _take_ldt_index(self) -> int:
        state = self.kernel.state
        if state.tasks.free_ldt_slots:
            return state.tasks.free_ldt_slots.pop()
        if state.tasks.next_ldt_slot >= selectors.GDT_FIRST_LDT + selectors.MAX_PROCESSES:
            raise PolicyError(ErrorCode.NO_RESOURCES)
        state.tasks.next_ldt_slot += 1
        return state.tasks.next_ldt_slot - 1


def waits_for_input(thread: Thread) -> bool:
    """Whether a thread waits for the console."""
    return thread.state == ThreadState.BLOCKED and thread.wait_reason == WaitReason.INPUT


SPACE_FRAMES = 5  # of an empty address space: pointers, three directories, LDT
LOAD_FRAMES = 7  # of a program beside its segments: arguments, stack, page tables for both and for the program
