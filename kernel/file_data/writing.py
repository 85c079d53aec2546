"""Writable pages of file windows: choosing them, and noticing what was written when they are unmapped.

A page may be written to if it is a block of the cache with nothing else in it, its file was opened to be written, and
there is room for one more changed block (`kernel/storage/changed_blocks.py`).  A range is mapped with as many writable
pages as there is room for; the page fault of the first write to another one makes that one writable.
"""

from __future__ import annotations

from collections.abc import Iterable

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.errors import CallerError, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import OpenFile, Process, Tasks
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.file_data.window_pages import address_of, opened_at, shown_pages
from callgate.kernel.memory.page_tables import PageTables
from callgate.kernel.storage.changed_blocks import ChangedBlocks
from callgate.kernel.storage.disk_requests import Key
from callgate.kernel.tasks.scheduler import Scheduler

PAGES_AT_ONCE = 16  # that a write to a read-only page makes writable


class FileWriting:
    """Claims of changed blocks for writable pages, by span and window (`Span.users`)."""

    def __init__(
        self,
        state: FilesState,
        guest: Guest,
        tables: PageTables,
        tasks: Tasks,
        scheduler: Scheduler,
        changed_blocks: ChangedBlocks,
    ) -> None:
        self.state = state
        self.guest = guest
        self.tables = tables
        self.tasks = tasks
        self.scheduler = scheduler
        self.changed_blocks = changed_blocks
        self.cache = changed_blocks.cache

    def claim(self, process: Process, span: Span, pages: Iterable[int]) -> tuple[set[int], dict[int, Key]]:
        """Claim those of a span's pages that a process may write to, as far as there is room.

        Return their indexes, and the blocks of those with a new claim, whose change is still to be noticed.
        """
        keys = {self.cache.frame(key): key for run in span.blocks for key in run.keys}
        whole = {index: keys[span.frames[index]] for index in pages if span.whole[index]}
        allowed = dict(zip(whole, self.changed_blocks.claim(whole.values(), process.family), strict=False))
        return set(allowed), {index: whole[index] for index, claimed in allowed.items() if claimed}

    def disclaim(self, process: Process, opened: OpenFile, span: Span) -> None:
        """Keep what was written to a span through a window, before its entries, with their dirty bits, are cleared."""
        claims = span.users.pop((process.number, opened.page))
        self.state.mapped -= 1
        self._keep(process, opened, span, claims)
        self.changed_blocks.disclaim(claims.values(), process.family)

    def allow(self, process: Process, opened: OpenFile, file: FileObject, address: int) -> None:
        """Make a mapped page writable, and the pages that follow, up to `PAGES_AT_ONCE`.

        NOT_WRITABLE if the file was not opened to be written, COPIED_PAGE if the page is not a whole block of the cache
        or not mapped, NO_MEMORY if too many blocks have been changed.
        """
        page = (address - opened.window + opened.position) // PAGE_SIZE
        span = file.covering(file.page_start(page))
        claims = span.users.get((process.number, opened.page)) if span is not None else None
        first = page - span.first_page if span is not None else 0
        if not opened.writable:
            raise CallerError(ErrorCode.NOT_WRITABLE)
        if span is None or claims is None or not span.whole[first]:
            raise CallerError(ErrorCode.COPIED_PAGE)
        thread = self.scheduler.current
        spared, thread.allowed = thread.allowed, None
        if self.changed_blocks.room(process.family) <= 0:
            self._take_back(spared)
        shown = shown_pages(opened, file, span)
        made, claimed = self.claim(process, span, range(first, min(first + PAGES_AT_ONCE, shown.stop)))
        if first not in made:
            raise Shortage(ErrorCode.NO_MEMORY, "too many blocks of the cache have been changed")
        thread.allowed = span.number, process.number, opened.page, first
        self.changed_blocks.disclaim([key for index, key in claimed.items() if index in claims], process.family)
        claims.update(claimed)
        for index in made:
            self._allow_writes(process, opened, span, index, allowed=True)

    def _take_back(self, spared: tuple[int, int, int, int] | None) -> None:
        """Map every writable page that has not been written to read-only: that makes room for another.

        Except the page that the current thread was allowed last (`Thread.allowed`): one instruction may write to both,
        and would fault for ever if each fault took the other page back.  Pages that have been written to no longer need
        a claim: their blocks are counted as changed.
        """
        for file in self.state.objects.values():
            for span in file.spans:
                for user, claims in span.users.items():
                    if claims:
                        last = spared[3] if spared is not None and spared[:3] == (span.number, *user) else None
                        self._take_claims(span, user, claims, last)
        self.guest.flush_tlb()

    def _take_claims(self, span: Span, user: tuple[int, int], claims: dict[int, Key], spared: int | None) -> None:
        """Take back a window's claims to a span's pages, except that of page `spared` while it is unwritten."""
        process = self.tasks.processes[user[0]]
        opened = opened_at(process, user[1])
        assert opened is not None  # closing unmaps everything from a window
        written = self._keep(process, opened, span, claims)
        taken = {index: key for index, key in claims.items() if index != spared or index in written}
        for index in taken.keys() - written:
            self._allow_writes(process, opened, span, index, allowed=False)
        self.changed_blocks.disclaim(taken.values(), process.family)
        for index in taken:
            del claims[index]

    def _keep(self, process: Process, opened: OpenFile, span: Span, claims: dict[int, Key]) -> set[int]:
        """Have the cache keep those of the claimed pages that were written to through a window; return their indexes.

        No thread writes during this: policy is atomic, and the process continues with an empty TLB.
        """
        wanted = layout.PTE_PRESENT | layout.PTE_DIRTY
        tables, pointers = self.tables, process.pointers
        written = {
            index for index in claims if tables.entry(pointers, address_of(opened, span, index)) & wanted == wanted
        }
        self.changed_blocks.keep([claims[index] for index in sorted(written)], process.family)
        return written

    def _allow_writes(self, process: Process, opened: OpenFile, span: Span, index: int, *, allowed: bool) -> None:
        """Set or clear the writable bit of a page's entry."""
        address = self.tables.entry_address(process.pointers, address_of(opened, span, index))
        assert address is not None
        entry = self.tables.quads[address >> 3] & ~layout.PTE_WRITABLE
        self.tables.put_entry(address, entry | layout.PTE_WRITABLE * allowed)
