"""Completion of spans: when their data have arrived or failed, pages are made and readers woken."""

from __future__ import annotations

from typing import cast

from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.common.stretches import stretches
from callgate.kernel.core.errors import DiskError, GivenUp, PolicyError, ServerShortage, Shortage
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import BlockRun
from callgate.kernel.file_data.hunger import Hunger
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.objects import FileObject, FilesState, publish
from callgate.kernel.file_data.pages import FilePages
from callgate.kernel.file_data.spans import Span
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.sector_lists import SectorLists


class Completion:
    """Answers to FILE_READY, and the end of every span."""

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
        """FILE_READY: all sectors of span `number` have been read or have failed."""
        self.arrived(number)

    def left_unread(self, keys: set[tuple[int, int]]) -> None:
        """No disk request will read these blocks: count them down in the lists that wait for them."""
        for number, (_, span) in list(self.state.waiting.items()):
            if keys.isdisjoint(key for run in span.blocks for key in run.keys):
                continue
            if self.lists.linked(span.list_frame) and self.lists.mark_unread(span.list_frame, keys):
                self.arrived(number)

    def arrived(self, number: int) -> None:
        """Finish a span whose sectors have all been read or have failed: it becomes READY or FAILED."""
        entry = self.state.waiting.get(number)
        if entry is None:
            return
        file, span = self.state.objects[entry[0]], entry[1]
        error, again = self._cut_at_failure(file, span)
        if error is not None and not again:
            server = self.letting_go.endpoints.by_number[file.endpoint]
            self.log(f"{server.name}: {error}", server)
        if error is not None and not span.parts:
            self.fail(file, span, error, again=again)
            return
        try:
            self.ready(file, span)
        except Shortage as shortage:
            self.fail(file, span, shortage)

    def _cut_at_failure(self, file: FileObject, span: Span) -> tuple[DiskError | None, bool]:
        """End a span before the first page that could not be read; return (error, again), (None, False) without one.

        `again` says whether asking again may help: the page was read together with others that may have failed it.
        """
        cache = self.cache
        if not cache.state.failing:
            return None, False
        keys = [key for run in span.blocks for key in run.keys]
        bad = {cache.frame(key): key for key in cache.failures(keys)}
        for index, parts in enumerate(span.parts if bad else ()):
            frames = {parts} if isinstance(parts, int) else {part.source & -PAGE_SIZE for part in parts}
            found = next((frame for frame in frames if frame in bad), None)
            if found is not None:
                del span.parts[index:]
                span.length = max(0, file.page_start(span.first_page + index) - span.position)
                result = cache.failed(bad[found]), bad[found] in cache.state.alone
                self._let_go_of_blocks(span)
                return result
        return None, False

    def _let_go_of_blocks(self, span: Span) -> None:
        """Unlock the blocks after the end of a span that was cut short: a locked bad block is never read again."""
        cache = self.cache
        used = {parts for parts in span.parts if isinstance(parts, int)}
        used |= {part.source & -PAGE_SIZE for parts in span.parts if not isinstance(parts, int) for part in parts}
        kept: list[BlockRun] = []
        gone: list[tuple[int, int]] = []
        for disk, first, count in span.blocks:
            numbers = [number for number in range(first, first + count) if cache.frame((disk, number)) in used]
            kept += [BlockRun(disk, numbers[begin], end - begin) for begin, end in stretches(numbers, 1)]
            gone += [(disk, number) for number in sorted({*range(first, first + count)} - {*numbers})]
        self.letting_go.pins.unlock(gone)
        span.blocks = kept

    def ready(self, file: FileObject, span: Span) -> None:
        """Put the pages of a span together, publish them, and wake its readers; NO_MEMORY for a copied page."""
        parts, make = span.parts, self.pages.make
        # A block of the cache with nothing else in it is whole.
        if {*map(type, parts)} == {int} and min(cast("list[int]", parts)) >= HIGH_MEMORY:  # as nearly always
            span.frames, span.whole = cast("list[int]", parts), [True] * len(parts)
        else:
            span.frames = [one if isinstance(one, int) else make(span, one) for one in parts]
            span.whole = [isinstance(one, int) and one >= HIGH_MEMORY for one in parts]
        span.parts = []
        span.state = SpanState.READY
        self._settle(span)
        publish(self.letting_go.guest.ram, file)
        self.letting_go.timer.watch()
        self.letting_go.finish_closing(file)

    def fail(self, file: FileObject, span: Span, error: PolicyError, *, again: bool = False) -> None:
        """End a span without data: its readers raise `error`, or ask once more if `again`; later readers always ask."""
        span.state, span.error, span.again = SpanState.FAILED, error, again
        self._settle(span)
        before = self.pages.give_back(file, span)
        self.letting_go.drop(file, span)
        if before is not None:
            before.number = self.state.next_number
            before.stuck = not again and not isinstance(error, GivenUp | ServerShortage | Shortage)
            self.state.next_number += 1
            self.letting_go.records.insert(self.letting_go.endpoints.by_number[file.endpoint], before)
            self.state.insert(file, before)
            publish(self.letting_go.guest.ram, file)
        self.letting_go.finish_closing(file)

    def nothing_left(self, file: FileObject, span: Span) -> None:
        """End a span whose reply left no data but told where pages begin; its readers ask again."""
        span.state = SpanState.READY
        self._settle(span)
        self.letting_go.drop(file, span)
        self.letting_go.finish_closing(file)

    def _settle(self, span: Span) -> None:
        """A span is READY or FAILED: drop what was needed only in flight, and wake the waiting threads."""
        if self.state.waiting.pop(span.number, None) is not None:
            self.lists.unreserve(span.family)
        if span.list_frame:
            self.lists.release(span.list_frame)
            span.list_frame = 0
        waiters, span.waiters = span.waiters, []
        self.hunger.wake(waiters)
        self.hunger.feed(span)
