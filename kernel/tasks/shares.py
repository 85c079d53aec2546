"""Shares: whether a process may have one more of a resource (kernel/abi/limits.py), checked where it is made.

A resource shared by all has two bounds. A family, a program that the shell or the kernel has started with all its
descendants, has no more than its share. And the last of each resource is reserved for users on which others depend:
page tables and message pages come first, then copies of file data, then the shell and the programs that it starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from callgate.kernel.abi import limits
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.selectors import MAX_PROCESSES, MAX_THREADS
from callgate.kernel.core.errors import Shortage
from callgate.kernel.core.records import Endpoints, EndpointState, Process, Tasks
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.physical_memory import PhysicalMemory

Reclaim = Callable[[Callable[[], bool]], bool]


class Shares:
    """The checks; they change only `locked_blocks`, and may have file data release memory."""

    def __init__(self, tasks: Tasks, endpoints: Endpoints, memory: PhysicalMemory, reclaim: Reclaim) -> None:
        """`reclaim(enough)` releases low memory of idle directories and file data; False if there is none."""
        self.tasks = tasks
        self.endpoints = endpoints
        self.memory = memory
        self.reclaim = reclaim
        self.loading: Counter[int] = Counter()  # by family: bytes of programs that are being read

    def favoured(self, process: Process) -> bool:
        """Whether a process may use the reserve: the shell, and programs that it or the kernel starts."""
        shell = self.tasks.shell
        return shell in (process.number, process.parent) or (process.parent == 0 and not process.threads)

    def family_of(self, number: int, parent: int) -> int:
        """Return the family of a new process: its parent's, unless the kernel or the shell starts it."""
        if parent in (0, self.tasks.shell) or parent not in self.tasks.processes:
            return number
        return self.tasks.processes[parent].family

    def _family(self, family: int) -> list[Process]:
        return [process for process in self.tasks.processes.values() if process.family == family]

    # Processes and threads.

    def check_process(self, parent: int) -> None:
        """NO_RESOURCES if a process must not have one more child."""
        if parent in (0, self.tasks.shell) or parent not in self.tasks.processes:
            return
        if len(self.tasks.processes) >= MAX_PROCESSES - limits.PROCESSES_RESERVED:
            raise Shortage(ErrorCode.NO_RESOURCES, "the last processes are the shell's")
        if len(self._family(self.tasks.processes[parent].family)) >= limits.PROCESSES_OF_FAMILY:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a family has at most {limits.PROCESSES_OF_FAMILY} processes")

    def check_thread(self, process: Process) -> None:
        """NO_RESOURCES if a process must not have one more thread; NO_MEMORY if there is no memory for its stack.

        Of a program that the shell starts only the first thread may be one of the last: it must be able to start, and a
        disk that comes while it runs must find threads for its server.
        """
        if len(process.threads) >= limits.THREADS_OF_PROCESS:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a process has at most {limits.THREADS_OF_PROCESS} threads")
        if process.number != self.tasks.shell and (process.threads or not self.favoured(process)):
            if len(self.tasks.threads) >= MAX_THREADS - limits.THREADS_RESERVED:
                raise Shortage(ErrorCode.NO_RESOURCES, "the last threads are the shell's")
            if sum(len(other.threads) for other in self._family(process.family)) >= limits.THREADS_OF_FAMILY:
                raise Shortage(ErrorCode.NO_RESOURCES, f"a family has at most {limits.THREADS_OF_FAMILY} threads")
        self.check_frames(process, THREAD_FRAMES)

    # Low memory.

    def check_frames(self, process: Process, count: int) -> None:
        """NO_MEMORY if a process must not have `count` more frames, or there are none that it may have."""
        if frames_of(process) + count > limits.FRAMES_OF_PROCESS:
            raise OutOfMemory
        self._check_family(process.family, count)
        self.check_free(process, count)

    def has_frames(self, process: Process, count: int) -> bool:
        """Whether a process may have `count` more frames, and there are as many that need not be released first."""
        if self.memory.low.available < self._reserved_from(process) + count:
            return False
        try:
            self.check_frames(process, count)
        except OutOfMemory:
            return False
        return True

    def check_list(self, process: Process) -> None:
        """NO_MEMORY if a process must not request one more span, which takes a frame for its sector list."""
        if self.tasks.lists.get(process.family, 0) >= limits.SPANS_OF_FAMILY:
            raise OutOfMemory
        self._check_family(process.family, 1)

    def _check_family(self, family: int, count: int) -> None:
        held = sum(map(frames_of, self._family(family))) + self.tasks.lists.get(family, 0)
        if held + count > self.memory.low.total // limits.FRAMES_OF_FAMILY_PART:
            raise OutOfMemory

    def check_free(self, process: Process, count: int) -> None:
        """NO_MEMORY if fewer than `count` frames are left beside the reserve for others."""
        self.leave(self._reserved_from(process), count)

    def _reserved_from(self, process: Process) -> int:
        """Return how many frames of low memory a process has to leave for others."""
        return limits.FRAMES_RESERVED_SHELL if self.favoured(process) else limits.FRAMES_RESERVED_PROGRAMS

    def leave(self, reserved: int, count: int) -> None:
        """Have file data release memory until `count` frames can be taken and `reserved` are left; NO_MEMORY."""
        pool = self.memory.low

        def enough() -> bool:
            return pool.available >= reserved + count

        while not enough():
            if not self.reclaim(enough):
                raise OutOfMemory

    def frame_for_files(self) -> int:
        """Return a low frame for files; if there is none, release copies of file data. NO_MEMORY if there are none."""
        self.leave(limits.FRAMES_RESERVED_FILES, 1)
        return self.memory.low.allocate()

    # Files and directories.

    def check_file(self, process: Process) -> None:
        """NO_RESOURCES if a process must not open one more file."""
        if len(process.files) >= limits.FILES_OF_PROCESS:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a process has at most {limits.FILES_OF_PROCESS} files open")
        if sum(len(other.files) for other in self._family(process.family)) >= limits.FILES_OF_FAMILY:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a family has at most {limits.FILES_OF_FAMILY} files open")

    def check_lock(self, process: Process) -> None:
        """NO_RESOURCES if a process must not lock one more directory."""
        if len(process.locks) >= limits.DIRECTORIES_OF_PROCESS:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a process locks at most {limits.DIRECTORIES_OF_PROCESS}")
        if sum(len(other.locks) for other in self._family(process.family)) >= limits.DIRECTORIES_OF_FAMILY:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a family locks at most {limits.DIRECTORIES_OF_FAMILY}")

    # Programs that are being read.

    def check_loading(self, parent: int, count: int) -> None:
        """NO_MEMORY if `count` more bytes of programs are too many while others are being read."""
        most = limits.PROGRAMS_LOADING_BYTES
        if parent not in (0, self.tasks.shell):
            most -= limits.PROGRAMS_LOADING_RESERVED
            if self.loading[self.family_of(0, parent)] + count > limits.PROGRAMS_LOADING_OF_FAMILY:
                raise Shortage(ErrorCode.NO_MEMORY, "the family reads too many programs")
        if self.loading.total() + count > most:
            raise Shortage(ErrorCode.NO_MEMORY, "too many programs are being read")

    def note_loading(self, family: int, count: int) -> None:
        """Book `count` more bytes of a program to the family that has it read; when it has been read, as many less."""
        self.loading[family] += count
        if not self.loading[family]:
            del self.loading[family]  # or there would be one for each program that has ever been started

    # Blocks of the cache.

    def check_blocks(self, endpoint: EndpointState, count: int) -> None:
        """NO_RESOURCES if a server must not lock `count` more blocks.

        Each has some of its own; further ones are taken from those that all share.
        """
        total = self.memory.high.total
        own, shared = total // limits.SERVER_BLOCKS_OWN, total // limits.SERVER_BLOCKS_SHARED
        most = max(total // limits.SERVER_BLOCKS_PART, limits.SERVER_BLOCKS_LEAST)
        mine = endpoint.locked_blocks + count
        servers = self.endpoints.by_number.values()
        others = sum(max(0, server.locked_blocks - own) for server in servers if server is not endpoint)
        if mine > own and (mine > most or mine - own + others > shared):
            raise Shortage(ErrorCode.NO_RESOURCES, f"/{endpoint.name} has {endpoint.locked_blocks} blocks locked")


def frames_of(process: Process) -> int:
    """Return how many frames of low memory a process holds: pages, tables, its threads', its files', its windows'."""
    own = len(process.pages) + len(process.tables) + THREAD_FRAMES * len(process.threads)
    return own + process.shown + FILE_FRAMES * len(process.files)


FILE_FRAMES = 1  # the file's page, which the processes that have the file open share
THREAD_FRAMES = 4  # kernel stack, path page, and a share of a page table of the kernel's
