"""Ageing of file data: ranges that no program accesses are unmapped, unlocked in the cache, and released at the server.

A kernel thread (`ageing_thread`) looks at the accessed bits of mapped data, 250 ms of virtual time after the last
look, as long as any are mapped.  Machine code clears the bits (`harvest_accessed`), so that none is lost; a range
that has none at two looks is released, and its server told.  With nothing mapped no timer runs.
"""

from __future__ import annotations

from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.records import Tasks
from callgate.kernel.file_data.ageing_timer import AgeingTimer
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.objects import FileObject, FilesState, publish
from callgate.kernel.file_data.spans import Span
from callgate.kernel.file_data.window_pages import addresses_of, opened_at
from callgate.kernel.memory.physical_memory import PhysicalMemory

IDLE_LOOKS = 2  # looks in a row without an access after which a range is released


class FileAgeing:
    """Answers to FILES_AGE."""

    def __init__(
        self, state: FilesState, timer: AgeingTimer, memory: PhysicalMemory, tasks: Tasks, letting_go: LettingGo
    ) -> None:
        self.timer = timer
        self.guest = timer.guest
        self.memory = memory
        self.tasks = tasks
        self.letting_go = letting_go
        self.state = state

    async def host_files_age(self, _value: int) -> None:
        """FILES_AGE: release mapped ranges that have not been accessed, and set the timer for the next look."""
        state = self.timer.state
        if not state.watching:
            return
        state.watching = False
        await self._look()
        # Data in flight are looked at after they have arrived, which may be never if their server does not answer.
        if any(span.state is SpanState.READY for file in self.state.objects.values() for span in file.spans):
            self.timer.watch()

    async def _look(self) -> None:
        flush = False
        for file in list(self.state.objects.values()):
            changed = False
            for span in [span for span in file.spans if span.idling]:
                accessed = await self._accessed(file, span)
                flush |= accessed
                span.idle = 0 if accessed else span.idle + 1
                if span.idle >= IDLE_LOOKS and span.idling and span in file.spans:
                    self.letting_go.release(file, span)
                    changed = True
            if changed:
                publish(self.guest.ram, file)
        if flush:
            self.guest.flush_tlb()

    async def _accessed(self, file: FileObject, span: Span) -> bool:
        """Whether a page of a span has been accessed since the last look; this clears the accessed bits."""
        found = 0
        for number, page in list(span.users):
            process = self.tasks.processes.get(number)
            opened = opened_at(process, page) if process is not None else None
            if process is None or opened is None:
                continue
            pages = addresses_of(opened, file, span)
            at = pages.start
            while at < pages.stop:
                end = min(pages.stop, (at // LARGE_PAGE_SIZE + 1) * LARGE_PAGE_SIZE)
                entry = self.memory.tables.entry_address(process.pointers, at)
                if entry is not None:
                    found += await self._harvest(entry, (end - at) // PAGE_SIZE)
                at = end
        return found > 0

    async def _harvest(self, entry: int, count: int) -> int:
        """Clear the accessed bits of `count` consecutive entries of one table; return how many were set.

        The table is held until that is done: its process may end before.
        """
        table = entry & -PAGE_SIZE
        self.memory.low.hold(table)
        try:
            result = await routine("harvest_accessed", ebx=KERNEL_BASE + entry, ecx=count)
        finally:
            self.memory.low.release(table)
        return result.eax
