"""File data on a plain IPC room, for unit tests of managers: a cache whose disk reads what a test gives, and files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.message import ReplyType, SlotState
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.records import BlockRun, OpenFile, Process
from callgate.kernel.file_data.ageing import FileAgeing
from callgate.kernel.file_data.ageing_timer import AgeingState, AgeingTimer
from callgate.kernel.file_data.answers import Answers
from callgate.kernel.file_data.completion import Completion
from callgate.kernel.file_data.fetching import Fetching
from callgate.kernel.file_data.hunger import Hunger
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.mapping import FileMapping
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.pages import FilePages
from callgate.kernel.file_data.spans import Span, SpanRecords
from callgate.kernel.file_data.writing import FileWriting
from callgate.kernel.ipc.deferred_releases import DeferredReleases, DeferredReleasesState
from callgate.kernel.memory.pins import Pins
from callgate.kernel.memory.windows import Windows
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.cache_records import CacheState
from callgate.kernel.storage.changed_blocks import ChangedBlocks
from callgate.kernel.storage.disk_requests import Key, Run
from callgate.kernel.storage.sector_lists import SectorLists, SectorListsState
from plain_guest import drive, returned
from plain_ipc import DATA, Ipc

PAGE = 4096


class FileData(Ipc):
    """The managers of file data, wired as in the kernel.  `runs` are the disk requests under way."""

    def __init__(self) -> None:
        super().__init__()
        self.map_edges = False
        self.runs: list[Run] = []
        self.files_state = FilesState()
        state, guest = self.files_state, self.guest
        self.cache = Cache(
            CacheState(),
            self.high,
            self.scheduler,
            self,  # type: ignore[arg-type]  # `read` below
            self._reclaim_blocks,
            self._left_unread,
        )
        pins = Pins(self.low, self.cache.unlock)
        self.slots.pins = pins
        self.windows = Windows(guest, self.memory, pins, self.endpoints)
        self.back = DeferredReleases(DeferredReleasesState(), guest, self.threads, self.slots, self.log, lambda: None)
        self.timer = AgeingTimer(AgeingState(), guest, self.threads)
        self.timer.start()
        changed = ChangedBlocks(self.cache)
        self.writing = FileWriting(state, guest, self.tables, self.records, self.scheduler, changed)
        self.mapping = FileMapping(state, self.records, self.windows, self.writing, self.timer)
        self.span_records = SpanRecords(guest, self.shares)
        self.letting_go = LettingGo(state, self.low, pins, self.mapping, self.back, self.timer, self.span_records)
        self.ageing = FileAgeing(state, self.timer, self.memory, self.records, self.letting_go)
        self.pages = FilePages(state, guest, self.shares, self.letting_go, lambda: self.map_edges)
        self.lists = SectorLists(SectorListsState(), guest, self.records, self.shares)
        self.hunger = Hunger(state, guest, self.records, self.threads)
        self.completion = Completion(state, self.cache, self.lists, self.pages, self.hunger, self.letting_go, self.log)
        self.answers = Answers(state, self.cache, self.requests, self.replies, self.completion)
        self.fetching = Fetching(state, self.threads, self.slots, self.cache, self.hunger, self.completion)
        self.posted.file_data, self.posted.releases = self.answers, self.back
        self.posted.unclaimed = self.back.unclaimed
        self.said: list[tuple[int, int]] = []  # releases that the server has been told of

    def _reclaim_blocks(self, enough: Callable[[], bool]) -> bool:
        return self.letting_go.reclaim(enough=enough)

    def _left_unread(self, keys: set[Key]) -> None:
        self.completion.left_unread(keys)

    def extend(self, _disk: int, _first: int, _frames: Sequence[int]) -> None:
        """Stand in for `DiskRequests.extend`: no request waits."""

    async def read(self, run: Run, frames: Sequence[int]) -> None:
        """Stand in for `DiskRequests.read`."""
        assert list(frames) == [self.cache.frame(key) for key in run.keys]
        self.runs.append(run)

    def end_runs(self, status: DiskStatus = DiskStatus.DONE) -> None:
        """Have the disk requests end, and count the blocks down in the lists as machine code does."""
        while self.runs:
            run = self.runs.pop(0)
            keys = set(run.keys)
            self.cache.ended(run, status)
            self.completion.left_unread(keys)

    def noted(self) -> list[tuple[int, int]]:
        """Return the deferred releases of the server, (operation, number), and clear them."""
        entries = self.endpoint.releases.entries
        found = list(entries)
        entries.clear()
        return found

    def new_file(self, size: int, *, shift: int | None = 0) -> FileObject:
        """Return a file of the endpoint's volume, open once."""
        state = self.files_state
        file = FileObject(state.next_object, 0, 50 + state.next_object, 0, size, 0, self.memory.cleared(), opens=1)
        file.shift = shift
        state.next_object += 1
        state.objects[file.number] = file
        return file

    def put(self, file: FileObject, position: int, pages: int, *, request: int = 0) -> Span:
        """Put a READY span into a file: whole blocks of the cache that hold nothing else."""
        first = 10 * len(self.cache.state.blocks)
        locked = self.cache.lock(0x100, list(range(first, first + pages)))
        run = Run(0x100, first, pages)
        self.cache._belong(run, run)
        self.cache.ended(run, DiskStatus.DONE)
        length = min(pages * PAGE, file.size - position)
        span = Span(self.files_state.next_number, position, length, SpanState.READY, server_request=request)
        self.files_state.next_number += 1
        span.first_page, span.frames = file.page_of(position), list(locked.frames)
        span.whole, span.blocks = [True] * pages, [BlockRun(0x100, first, pages)]
        self.insert(file, span)
        return span

    def insert(self, file: FileObject, span: Span) -> None:
        """Put a span into a file, with a record in the endpoint's array."""
        self.span_records.reserve(self.endpoint)
        self.span_records.insert(self.endpoint, span)
        self.files_state.insert(file, span)

    def expect(self, file: FileObject, position: int, length: int) -> Span:
        """Put a span on its way into a file, booked as `Fetching.post` does."""
        state = self.files_state
        family = self.lists.reserve(self.shell)
        span = Span(state.next_number, position, length, family=family)
        state.next_number += 1
        state.waiting[span.number] = (file.number, span)
        self.insert(file, span)
        return span

    def open_window(self, file: FileObject, *, process: Process | None = None, writable: bool = False) -> OpenFile:
        """Give a process (the shell) a window on a file."""
        process = process or self.shell
        opened = self.mapping.open(process, file, writable=writable)
        process.files[len(process.files) + 1] = opened
        return opened

    def entry(self, opened: OpenFile, page: int, process: Process | None = None) -> int:
        """Return the entry of a page of a window."""
        return self.tables.entry((process or self.shell).pointers, opened.window + page * PAGE)

    def answered(
        self,
        span: Span,
        entries: list[int],
        *,
        start: int,
        covered: int,
        request: int = 0,
        kind: ReplyType = ReplyType.SECTORS,
    ) -> tuple[int, memoryview]:
        """Take a slot for the READ of a span and write a server's answer into it, of any type."""
        slot = self.take(state=SlotState.SERVED)[0]
        self.slots.put_token(self.endpoint, slot, span.number)
        self.guest.words[self.endpoint.block // 4 + slot * 4 + 3] &= 0xFFFF  # no client waits
        page = self.slots.message(self.endpoint, slot)
        struct.pack_into(f"<{len(entries)}Q", page, DATA, *entries)
        message = self.message(slot)
        message.reply, message.count = kind, len(entries)
        message.eax, message.ecx, message.edx, message.edi = covered, start & 0xFFFF_FFFF, start >> 32, request
        return slot, page

    def sort_sectors(self, call: RoutineCall) -> RoutineResult:
        """Do what asm/kernel/disk/sectors.asm does: sort the entries of a list by sector."""
        view = self.guest.ram.view(call.ebx - 0xC000_0000, PAGE)
        (count,) = struct.unpack_from("<I", view, 8)
        words = sorted(struct.unpack_from(f"<{count}Q", view, 48), key=lambda word: (word >> 45, word & 0xFFFF_FFFF))
        struct.pack_into(f"<{count}Q", view, 48, *words)
        return returned(call)


HOLE = 1 << 63


def sectors(first: int, count: int) -> int:
    """Return an entry of a sectors reply."""
    return first | count - 1 << 60


def bring(data: FileData, span: Span, entries: list[int], *, start: int = 0, covered: int | None = None) -> None:
    """Have a server answer the READ of a span."""
    total = sum((entry >> 60 & 7) + 1 for entry in entries) * 512
    slot, _ = data.answered(span, entries, start=start, covered=total if covered is None else covered, request=3)
    data.run(data.thread)
    drive(data.slots.host_replied(slot), sort_sectors=data.sort_sectors)


def content(data: FileData, file: FileObject, position: int, size: int) -> bytes:
    """Return bytes of a file out of the pages of the span that they lie in."""
    span = file.covering(position)
    assert span is not None
    within = (position + (file.shift or 0)) % PAGE
    return data.guest.ram.read(span.frames[file.page_of(position) - span.first_page] + within, size)


def paint(data: FileData) -> None:
    """Write n + 1 into each block n of the cache, and garbage into memory that is free."""
    data.guest.ram.view(data.low.next, 4 * PAGE)[:] = b"\xff" * 4 * PAGE  # the next frames of low memory
    for (_, number), block in data.cache.state.blocks.items():
        data.guest.ram.write(block.frame, bytes([number + 1]) * PAGE)
