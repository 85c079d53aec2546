"""Completion of request blocks: their data have arrived, or have failed; pages are made, readers are woken."""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import Pin
from callgate.kernel.file_data.hunger import Hunger
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.objects import FileObject, FilesState, Fill, FillState, publish
from callgate.kernel.file_data.pages import FilePages
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.sector_lists import SectorLists


class Completion:
    """Answers to FILE_READY, and the end of every request block."""

    def __init__(
        self,
        state: FilesState,
        cache: Cache,
        lists: SectorLists,
        pages: FilePages,
        hunger: Hunger,
        letting_go: LettingGo,
        log: Log,
    ) -> None:
        self.state = state
        self.cache = cache
        self.lists = lists
        self.pages = pages
        self.hunger = hunger
        self.letting_go = letting_go
        self.log = log

    def host_file_ready(self, number: int) -> None:
        """FILE_READY: nothing is missing any more of request block `number`."""
        self.arrived(number)

    def left_unread(self, keys: set[tuple[int, int]]) -> None:
        """The thread that was to read these blocks will not: count them down in the lists that wait for them."""
        for number, (_, fill) in list(self.state.waiting.items()):
            if keys.isdisjoint((disk, block) for kind, disk, block in fill.pins if kind == "block"):
                continue
            if self.lists.linked(fill.list_frame) and self.lists.mark_unread(fill.list_frame, keys):
                self.arrived(number)

    def arrived(self, number: int) -> None:
        """Finish a request block whose sectors have all been read, or failed."""
        entry = self.state.waiting.get(number)
        if entry is None:
            return
        file, fill = self.state.objects[entry[0]], entry[1]
        error, again = self._cut_at_failure(file, fill)
        if error is not None and not again:
            server = self.letting_go.endpoints.by_number[file.partition]
            self.log(f"{server.name}: {error}", server)
        if error is not None and not fill.parts:
            self.fail(file, fill, error.code, again=again)
            return
        try:
            self.ready(file, fill)
        except PolicyError as problem:
            self.fail(file, fill, problem.code)

    def _cut_at_failure(self, file: FileObject, fill: Fill) -> tuple[PolicyError | None, bool]:
        """End a request block before the first page that could not be read; return why, if there is one.

        And whether it is worth asking again, because others were to be read together with that page.
        """
        cache = self.cache
        keys = [(disk, block) for kind, disk, block in fill.pins if kind == "block"]
        bad = {cache.frame(key): key for key in cache.failures(keys)}
        for index, parts in enumerate(fill.parts if bad else ()):
            frames = {parts} if isinstance(parts, int) else {part.source & -PAGE_SIZE for part in parts}
            found = next((frame for frame in frames if frame in bad), None)
            if found is not None:
                del fill.parts[index:]
                fill.length = max(0, file.page_start(fill.first_page + index) - fill.position)
                result = cache.failed(bad[found]), bad[found] in cache.state.alone
                self._let_go_of_blocks(fill)
                return result
        return None, False

    def _let_go_of_blocks(self, fill: Fill) -> None:
        """Unlock what a request block has been cut short of: nobody reads a bad block again while it is locked."""
        cache = self.cache
        used = {parts for parts in fill.parts if isinstance(parts, int)}
        used |= {part.source & -PAGE_SIZE for parts in fill.parts if not isinstance(parts, int) for part in parts}
        if fill.begun is not None:
            used.add(fill.begun.source & -PAGE_SIZE)
        kept: list[Pin] = []
        gone: list[Pin] = []
        for pin in fill.pins:
            (kept if pin[0] != "block" or cache.frame((pin[1], pin[2])) in used else gone).append(pin)
        self.letting_go.pins.release(gone)
        fill.pins = kept

    def ready(self, file: FileObject, fill: Fill) -> None:
        """Put the pages together, publish them, wake the readers."""
        for parts in fill.parts:
            frame = self.pages.make(fill, parts)
            fill.frames.append(frame)
            fill.whole.append(self.pages.whole(parts, frame))
        fill.parts = []
        fill.state = FillState.READY
        self._settle(fill)
        publish(self.letting_go.guest.ram, file)
        self.letting_go.timer.watch()
        self.letting_go.finish_closing(file)

    def fail(self, file: FileObject, fill: Fill, code: ErrorCode, *, again: bool = False) -> None:
        """End a request block without data; readers get the error or ask `again`, later ones ask again anyhow."""
        fill.state, fill.error, fill.again = FillState.FAILED, code, again
        self._settle(fill)
        before = self.pages.give_back(file, fill)
        self.letting_go.drop(file, fill)
        if before is not None:
            before.number = self.state.next_number
            before.stuck = not again and code is not ErrorCode.NO_MEMORY
            self.state.next_number += 1
            self.state.insert(file, before)
            publish(self.letting_go.guest.ram, file)
        self.letting_go.finish_closing(file)

    def nothing_left(self, file: FileObject, fill: Fill) -> None:
        """End a request block that told only where pages begin; its readers ask again."""
        fill.state = FillState.READY
        self._settle(fill)
        self.letting_go.drop(file, fill)
        self.letting_go.finish_closing(file)

    def _settle(self, fill: Fill) -> None:
        """A request block is READY or FAILED: forget what was for the way there, wake who waits."""
        if self.state.waiting.pop(fill.number, None) is not None:
            self.lists.unreserve(fill.family)
        if fill.list_frame:
            self.lists.release(fill.list_frame)
            fill.list_frame = 0
        waiters, fill.waiters = fill.waiters, []
        self.hunger.wake(waiters)
        self.hunger.feed(fill)
