"""System calls that policy answers: the table from SystemCall to what does the work.

A handler gets the caller's registers (`GateFrame`) and leaves results in them.  A call that has to wait
raises `Park`: the stub blocks its thread in machine code and makes the call again when it is woken, so
that no policy lives while a thread sleeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from callgate.kernel.abi.calls import SystemCall, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.layout import Layout, offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, USER_END
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE, Partition
from callgate.kernel.abi.thread import (
    GateFrame,
    ThreadControlBlock,
)
from callgate.kernel.abi.volume import VOLUME_BRIEFLY, VOLUME_UNASKED
from callgate.kernel.control import ControlBlock, word
from callgate.kernel.coroutines import CARRY
from callgate.kernel.errors import PolicyError
from callgate.kernel.information import ipc_information, ledger_information, thread_information
from callgate.kernel.paths import absolute, listed
from callgate.kernel.processes import KILLED_EXIT_CODE
from callgate.kernel.records import Process, Thread
from callgate.kernel.user_memory import BadAddress
from callgate.kernel.volume_information import BRIEFLY, PATIENCE

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

Handler = Callable[[Thread, ControlBlock], Coroutine[Any, Any, None] | None]
WAIT_RESULT = word(ThreadControlBlock, "arg7")
FRAME = word(ThreadControlBlock, "frame")
PATH_PAGE = word(ThreadControlBlock, "path_page")
PATH_LIMIT = MESSAGE_DATA_SIZE - 1  # bytes of a path, as copy_path has it
DIRECTORY_LIMIT = 511  # bytes of a current directory, as the shell has it


class Park(Exception):
    """The call has to wait: block for `reason`, then make it again."""

    def __init__(self, reason: WaitReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class SystemCalls:
    """Dispatch of SYSTEM, and the calls that need no other manager's state."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.table: dict[int, Handler] = {
            SystemCall.EXIT: self.exit,
            SystemCall.YIELD: self.yield_,
            SystemCall.ALLOCATE: self.allocate,
            SystemCall.FREE: self.free,
            SystemCall.START_PROCESS: self.start_process,
            SystemCall.WAIT_PROCESS: self.wait_process,
            SystemCall.KILL_PROCESS: self.kill_process,
            SystemCall.START_THREAD: self.start_thread,
            SystemCall.VOLUME_INFORMATION: self.volume_information,
            SystemCall.LOCK_DIRECTORY: self.lock_directory,
            SystemCall.UNLOCK_DIRECTORY: self.unlock_directory,
            SystemCall.OPEN: self.open,
            SystemCall.CLOSE: self.close,
            SystemCall.MAP_FILE: self.map_file,
            SystemCall.FILE_HANDLER: self.file_handler,
            SystemCall.PROCESS_INFORMATION: self.process_information,
            SystemCall.IPC_INFORMATION: self.ipc_information,
            SystemCall.LEDGER: self.ledger,
            SystemCall.CLOCK: self.clock,
            SystemCall.SLEEP: self.sleep,
            SystemCall.SET_DIRECTORY: self.set_directory,
            SystemCall.READ_LINK: self.read_link,
        }

    def host_system(self, number: int) -> Coroutine[Any, Any, None] | None:
        """SYSTEM: run the call in the current thread's gate frame, here or as a coroutine."""
        kernel = self.kernel
        thread = kernel.scheduler.current
        kernel.guest.words[thread.tcb + WAIT_RESULT] = 0
        frame = kernel.threads.overlay(thread, GateFrame, kernel.guest.words[thread.tcb + FRAME])
        frame["eflags"] &= ~CARRY
        handler = self.table.get(number)
        try:
            if thread.killed:
                raise PolicyError(ErrorCode.KILLED)  # it ends on its way back
            if handler is None:
                raise PolicyError(ErrorCode.BAD_CALL)
            waiting = handler(thread, frame)
        except PolicyError as error:
            fail(frame, error.code)
            return None
        except Park as park:
            kernel.guest.words[thread.tcb + WAIT_RESULT] = park.reason
            return None
        return None if waiting is None else self._finish(frame, waiting)

    async def _finish(self, frame: ControlBlock, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except PolicyError as error:
            fail(frame, error.code)

    # Processes and threads.

    def exit(self, thread: Thread, frame: ControlBlock) -> None:
        """End the whole process with the exit code in EBX."""
        self.kernel.processes.kill(thread.process, frame["ebx"])

    def yield_(self, _thread: Thread, _frame: ControlBlock) -> None:
        """Let others of the same priority run."""
        self.kernel.scheduler.request_yield()

    async def start_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Start the program at a path; EDI points to its command line."""
        kernel = self.kernel
        path, address = self._path(thread, frame)
        arguments = await self._string(thread.process, frame["edi"], PAGE_SIZE) if frame["edi"] else b""
        process = await kernel.programs.load(path, address, arguments, parent=thread.process.number)
        frame["eax"] = process.number

    async def _string(self, process: Process, address: int, limit: int) -> bytes:
        """Return a string of the process's memory; pages of a file in it are asked for."""
        while True:
            try:
                return self.kernel.processes.memory_of(process).read_string(address, limit)
            except BadAddress as error:
                if not await self.kernel.reading.fault(process, error.address):
                    raise

    def wait_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Wait until a child has ended; return its exit code."""
        child = self.kernel.state.tasks.processes.get(frame["ebx"])
        if child is None or child.parent != thread.process.number:
            raise PolicyError(ErrorCode.NO_CHILD)
        if child.number not in self.kernel.state.tasks.finished:
            child.waiter = thread.selector
            raise Park(WaitReason.CHILD)
        frame["eax"] = self.kernel.processes.reap(child)

    def kill_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Kill a process that this one, or a child of it, started."""
        victim = self.kernel.state.tasks.processes.get(frame["ebx"])
        if victim is None or not self._descends(victim, thread.process):
            raise PolicyError(ErrorCode.NO_CHILD)
        self.kernel.processes.kill(victim, KILLED_EXIT_CODE, "killed")

    def start_thread(self, thread: Thread, frame: ControlBlock) -> None:
        """Start another thread of the process at EBX with ESP = ECX and EAX = EDX."""
        kernel = self.kernel
        if frame["ebx"] >= USER_END or frame["ecx"] > USER_END:
            raise PolicyError(ErrorCode.BAD_ADDRESS)
        served = kernel.state.endpoints.by_number.get(thread.process.partition)
        if served is not None:
            kernel.partition_servers.check_room(served)
        new = kernel.threads.create_user(
            thread.process, thread.process.name, thread.priority, frame["ebx"], frame["ecx"], eax=frame["edx"]
        )
        if served is not None:
            kernel.partition_servers.add_server(served, new)
        kernel.scheduler.wake(new)
        frame["eax"] = new.number

    def sleep(self, thread: Thread, frame: ControlBlock) -> None:
        """Sleep for EDX:ECX nanoseconds of virtual time."""
        if thread.wakes_at is None:
            thread.wakes_at = self.kernel.guest.now + (frame["edx"] << 32 | frame["ecx"])
            self.kernel.scheduler.sleep_until(thread, thread.wakes_at)
        if self.kernel.guest.now < thread.wakes_at:
            raise Park(WaitReason.SLEEP)
        thread.wakes_at = None

    # Memory.

    def allocate(self, thread: Thread, frame: ControlBlock) -> None:
        """Give ECX bytes of zero-filled memory."""
        frame["eax"] = self.kernel.processes.allocate(thread.process, frame["ecx"])

    def free(self, thread: Thread, frame: ControlBlock) -> None:
        """Take back what `allocate` gave."""
        self.kernel.processes.free(thread.process, frame["ebx"])

    # Files and directories.

    async def open(self, thread: Thread, frame: ControlBlock) -> None:
        """Open the file at a path."""
        path, address = self._path(thread, frame)
        if frame["edx"] & ~int(OpenFlags.WRITE):
            raise PolicyError(ErrorCode.BAD_ARGUMENT, f"no such flags of OPEN: {frame['edx']:#x}")
        flags = OpenFlags(frame["edx"])
        handle, opened, file = await self.kernel.files.open(thread.process, path, address, flags)
        frame["eax"], frame["ebx"] = handle, file.attributes
        frame["ecx"], frame["edx"] = file.size & 0xFFFF_FFFF, file.size >> 32
        frame["esi"], frame["edi"] = opened.page, opened.window

    def close(self, thread: Thread, frame: ControlBlock) -> None:
        """Close a handle."""
        self.kernel.files.close(thread.process, frame["ebx"])

    async def map_file(self, thread: Thread, frame: ControlBlock) -> None:
        """Return where file data lies in memory, mapping it if need be."""
        position = frame["edx"] << 32 | frame["esi"]
        found = await self.kernel.reading.map(thread.process, frame["ebx"], position, frame["ecx"])
        frame["eax"], frame["ecx"], frame["edx"] = found

    def file_handler(self, thread: Thread, frame: ControlBlock) -> None:
        """Say where code goes on whose touch of a file window cannot be satisfied."""
        handler = frame["ebx"], frame["esi"], frame["edi"]
        if any(address >= USER_END for address in handler):
            raise PolicyError(ErrorCode.BAD_ADDRESS)
        thread.process.file_handler = handler

    async def lock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Map a directory's pages."""
        path, address = self._path(thread, frame)
        number, lock = await self.kernel.directories.lock(thread.process, path, address)
        frame["eax"], frame["ebx"], frame["ecx"] = lock.window, lock.version, lock.pages
        frame["edx"], frame["edi"] = number, lock.entries

    def unlock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Unmap a directory's pages."""
        self.kernel.directories.unlock(thread.process, frame["edx"])

    async def read_link(self, thread: Thread, frame: ControlBlock) -> None:
        """Copy out where a symbolic link leads, to EDI, where there is room for EDX bytes."""
        target = await self.kernel.directories.link_target(*self._path(thread, frame))
        if len(target) > frame["edx"]:
            raise PolicyError(ErrorCode.NAME_TOO_LONG)
        later = self._give(thread.process, frame["edi"], target)
        if later is not None:
            await later
        frame["eax"] = len(target)

    async def volume_information(self, thread: Thread, frame: ControlBlock) -> None:
        """Describe the EBX-th volume."""
        volumes = listed(self.kernel.state.endpoints)
        index = frame["ebx"] & ~(VOLUME_UNASKED | VOLUME_BRIEFLY)
        if index >= len(volumes):
            raise PolicyError(ErrorCode.NOT_FOUND)
        if frame["ebx"] & VOLUME_UNASKED:
            information = self.kernel.volume_queries.known(volumes[index])
        else:
            patience = BRIEFLY if frame["ebx"] & VOLUME_BRIEFLY else PATIENCE
            information = await self.kernel.volume_queries.describe(volumes[index], patience)
        later = self._give(thread.process, frame["edi"], information)
        if later is not None:
            await later

    # Information.

    def process_information(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """Describe the EBX-th thread."""
        threads = sorted(self.kernel.state.tasks.threads.values(), key=lambda item: item.number)
        if frame["ebx"] >= len(threads):
            raise PolicyError(ErrorCode.NOT_FOUND)
        item = threads[frame["ebx"]]
        self.kernel.scheduler.charge()
        information = thread_information(item, thread)
        return self._give(thread.process, frame["edi"], information)

    def ipc_information(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """Describe the EBX-th server's slots, masks, ring and counters."""
        partitions = list(self.kernel.state.endpoints.by_number.values())
        if frame["ebx"] >= len(partitions):
            raise PolicyError(ErrorCode.NOT_FOUND)
        partition = partitions[frame["ebx"]]
        fields = self.kernel.slots.block(partition)
        states = self.kernel.machine.ram.view(partition.block + offset_of(Partition, "state"), 32)
        information = ipc_information(partition, fields, states)
        return self._give(thread.process, frame["edi"], information)

    def ledger(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """Copy out the run's counters."""
        return self._give(thread.process, frame["edi"], ledger_information(self.kernel.machine.ledger.counts()))

    def clock(self, _thread: Thread, frame: ControlBlock) -> None:
        """Return the number of retired instructions."""
        retired = self.kernel.machine.clock.retired
        frame["eax"], frame["edx"] = retired & 0xFFFF_FFFF, retired >> 32

    def set_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Set the process's current directory; whether there is one is asked when it is used."""
        path, _ = self._path(thread, frame)
        if not path.startswith(b"/"):
            raise PolicyError(ErrorCode.BAD_ARGUMENT, "a current directory starts with /")
        if len(path) > DIRECTORY_LIMIT:
            raise PolicyError(ErrorCode.NAME_TOO_LONG)
        thread.process.directory = path

    def _path(self, thread: Thread, frame: ControlBlock) -> tuple[bytes, int]:
        """Return the path that the gate has copied, made absolute there, and its kernel linear address."""
        address = self.kernel.guest.words[thread.tcb + PATH_PAGE]
        path = bytes(self.kernel.machine.ram.view(address - KERNEL_BASE, frame["ecx"]))
        if b"\0" in path:
            raise PolicyError(ErrorCode.BAD_ARGUMENT, "a path holds no zero byte")
        if path and not path.startswith(b"/") and thread.process.directory:
            path = absolute(thread.process.directory, path)
            if len(path) > PATH_LIMIT:
                raise PolicyError(ErrorCode.NAME_TOO_LONG)
            self.kernel.machine.ram.view(address - KERNEL_BASE, len(path))[:] = path
        return path, address

    def _give(self, process: Process, address: int, data: Layout | bytes) -> Coroutine[Any, Any, None] | None:
        """Write a result into the process's memory; await what is returned if a page of a file has to be asked for."""
        try:
            self.kernel.processes.memory_of(process).write(address, bytes(data))
        except BadAddress as error:
            if self.kernel.reading.at(process, error.address) is None:
                raise
            return self._give_later(process, error, address, data)
        return None

    async def _give_later(self, process: Process, refused: BadAddress, address: int, data: Layout | bytes) -> None:
        """Ask for what is missing, a page of a file each time, until all of the result can be written."""
        missing: BadAddress | None = refused
        while missing is not None:
            await self._ask_to_write(process, missing)
            try:
                self.kernel.processes.memory_of(process).write(address, bytes(data))
                missing = None
            except BadAddress as error:
                missing = error

    async def _ask_to_write(self, process: Process, missing: BadAddress) -> None:
        """Have a page mapped that the process may write to; raise why it cannot be."""
        found = self.kernel.reading.at(process, missing.address)
        if found is None:
            raise missing
        if not found[0].writable or self.kernel.memory.tables.entry(process.pointers, missing.address):
            self.kernel.file_writing.allow(process, *found, missing.address)
        elif not await self.kernel.reading.fault(process, missing.address):
            raise missing

    def _descends(self, process: Process, ancestor: Process) -> bool:
        while process.parent != ancestor.number:
            parent = self.kernel.state.tasks.processes.get(process.parent)
            if parent is None or parent is process:
                return False
            process = parent
        return True


def fail(frame: ControlBlock, code: ErrorCode) -> None:
    """End a call with an error code."""
    frame["eax"] = code
    frame["eflags"] |= CARRY
