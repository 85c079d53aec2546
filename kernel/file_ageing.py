"""Ageing of file data: ranges that nobody accesses leave the windows, the cache's locks and the server.

A kernel thread (`ageing_thread`) looks at the accessed bits of what is mapped, 250 ms of virtual time after the last
look, as long as anything is.  Machine code takes the bits away (`harvest_accessed`), so that none is lost; a range
that has none at two looks is let go of, and its server told.  With nothing mapped there is no timer on account of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.memory import KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.coroutines import routine
from callgate.kernel.file_objects import FileObject, Fill, FillState, publish
from callgate.kernel.file_windows import FileWindows
from callgate.kernel.guest import Guest
from callgate.kernel.physical_memory import PhysicalMemory
from callgate.kernel.records import Tasks, Thread
from callgate.kernel.threads import Threads

FileObjects = Callable[[], dict[int, FileObject]]

PERIOD = 250_000_000  # nanoseconds of virtual time between two looks at accessed bits
IDLE_LOOKS = 2  # looks in a row without an access after which a range is let go


@dataclass(slots=True)
class AgeingState:
    """Records: the thread that looks, and whether it is going to."""

    thread: Thread | None = None
    watching: bool = False


class AgeingTimer:
    """When the thread looks: a while after anything has been mapped, and not at all with no file open."""

    def __init__(self, state: AgeingState, guest: Guest, threads: Threads) -> None:
        self.state = state
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler

    def start(self) -> None:
        """Make the thread; it begins when it is first due."""
        thread = self.threads.create_kernel("ageing", "ageing_thread")
        thread.wait_reason = WaitReason.SLEEP
        self.state.thread = thread

    def watch(self) -> None:
        """Something is mapped: look at it in a while."""
        state = self.state
        if state.thread is not None and not state.watching:
            state.watching = True
            self.scheduler.sleep_until(state.thread, self.guest.now + PERIOD)

    def rest(self) -> None:
        """No file is open any more: no timer on account of them."""
        state = self.state
        if state.watching and state.thread is not None:
            state.watching = False
            self.scheduler.cancel_sleep(state.thread)


class FileAgeing:
    """Answers to FILES_AGE."""

    def __init__(
        self, timer: AgeingTimer, memory: PhysicalMemory, tasks: Tasks, windows: FileWindows, objects: FileObjects
    ) -> None:
        """`objects` returns the file objects by number."""
        self.timer = timer
        self.guest = timer.guest
        self.memory = memory
        self.tasks = tasks
        self.windows = windows
        self.objects = objects

    async def host_files_age(self, _value: int) -> None:
        """FILES_AGE: look at what is mapped, look again later."""
        state = self.timer.state
        if not state.watching:
            return
        state.watching = False
        await self._look()
        # What is still on its way is looked at from when it is there; that may be never, if its server is silent.
        if any(fill.state is FillState.READY for file in self.objects().values() for fill in file.fills):
            self.timer.watch()

    async def _look(self) -> None:
        flush = False
        for file in list(self.objects().values()):
            changed = False
            for fill in [fill for fill in file.fills if fill.idling]:
                accessed = await self._accessed(file, fill)
                flush |= accessed
                fill.idle = 0 if accessed else fill.idle + 1
                if fill.idle >= IDLE_LOOKS and fill.idling and fill in file.fills:
                    self.windows.release(file, fill)
                    changed = True
            if changed:
                publish(self.guest.ram, file)
        if flush:
            self.guest.flush_tlb()

    async def _accessed(self, file: FileObject, fill: Fill) -> bool:
        """Whether a page of a request block has been accessed since the last look; the bits are taken away."""
        found = 0
        for number, page in list(fill.users):
            process = self.tasks.processes.get(number)
            opened = self.windows.opened(process, page) if process is not None else None
            if process is None or opened is None:
                continue
            pages = self.windows.pages(opened, file, fill)
            at = pages.start
            while at < pages.stop:
                end = min(pages.stop, (at // LARGE_PAGE_SIZE + 1) * LARGE_PAGE_SIZE)
                entry = self.memory.tables.entry_address(process.pointers, at)
                if entry is not None:
                    found += await self._harvest(entry, (end - at) // PAGE_SIZE)
                at = end
        return found > 0

    async def _harvest(self, entry: int, count: int) -> int:
        """Take the accessed bits of entries away that follow each other in one table; return how many there were.

        The table stays what it is until that is done, also if its process ends meanwhile.
        """
        table = entry & -PAGE_SIZE
        self.memory.low.hold(table)
        try:
            result = await routine("harvest_accessed", ebx=KERNEL_BASE + entry, ecx=count)
        finally:
            self.memory.low.release(table)
        return result.eax
