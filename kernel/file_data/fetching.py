"""Fetching file data: the span that covers a position, and the READ that is posted if there is none.

The stages of a span (`Span`), with the routines in machine code that do the work:

    fetching    `ipc_post_and_wait`: a READ is posted, and the reader waits for its data; `ipc_post` for a READ ahead,
                for which no thread waits (asm/kernel/ipc/post.asm)
    answers     REPLIED: the server's sectors are sorted (`sort_sectors`), locked in the cache, and the missing
                ones are counted and read (`disk_submit`); then the server continues
    completion  `lists_arrived`, from the disk driver's interrupt, finds the entry by binary search, counts down, and
                calls FILE_READY at zero; with all sectors in the cache already there is nothing to count;
                pages are put together, the file's page is published, the readers are woken
"""

from __future__ import annotations

from callgate.kernel.abi import selectors
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.limits import SPANS, SPANS_OF_FILE
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.errors import (
    CallerError,
    DiskError,
    GivenUp,
    ServerAnswer,
    ServerFault,
    ServerShortage,
    Shortage,
    error_of_code,
)
from callgate.kernel.file_data.completion import Completion
from callgate.kernel.file_data.hunger import Hunger, Patience
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.ipc.slots import Slots
from callgate.kernel.storage.cache import Cache
from callgate.kernel.tasks.threads import Threads

SPAN_BYTES = MESSAGE_ADDRESSES * PAGE_SIZE  # the most that one aligned request can return


class Fetching:
    """Finds or makes the spans that readers ask for."""

    def __init__(
        self, state: FilesState, threads: Threads, slots: Slots, cache: Cache, hunger: Hunger, completion: Completion
    ) -> None:
        self.state = state
        self.threads = threads
        self.scheduler = threads.scheduler
        self.slots = slots
        self.endpoints = slots.state
        self.cache = cache
        self.hunger = hunger
        self.completion = completion
        self.letting_go = completion.letting_go

    async def obtain(self, file: FileObject, position: int, wanted: int) -> Span:
        """Return the READY span that covers `position`, making it and waiting for it if need be.

        A new span has up to `wanted` bytes from `position` on, rounded to pages.  The server is asked `TRIES` times at
        most.  PolicyError: BAD_HANDLE if the file is closed during the wait, the file's error if it is no longer
        valid, the server's or the disk's error, NO_MEMORY, NO_RESOURCES, KILLED, INTERRUPTED.
        """
        patience = Patience()
        asking = False  # whether the server has been given time to answer deferred releases
        while True:
            if self.scheduler.current.killed:
                raise GivenUp(ErrorCode.KILLED)
            patience.spend()
            self._check(file)
            span = file.covering(position)
            if span is None and file.shift is None:
                # The first data tell where pages begin: one request at a time until then.
                span = next((span for span in file.spans if span.state is SpanState.WAITING), None)
            if span is None:
                if not asking:
                    asking = True
                    if await self.letting_go.releases.catch_up(self.endpoints.by_number[file.endpoint]):
                        continue
                span = await self._ask(file, position, wanted)
            elif span.state is SpanState.READY:
                if await self._complete(file, span, patience):
                    return span
                continue
            else:
                await self._wait(span)
            if span.state is SpanState.FAILED:
                await self._after(file, span, patience)
            # The reply may have covered less than was requested: look again.

    async def _ask(self, file: FileObject, position: int, wanted: int) -> Span:
        """Post a READ from the page of `position` on, and wait until its data have arrived or failed."""
        span = self.begin(file, position, wanted)
        with self.hunger.keeping(span):
            await self._send(file, span, "ipc_post_and_wait")
            await self._until_settled(span)
        return span

    async def post(self, file: FileObject, position: int, wanted: int) -> Span:
        """Post a READ from the page of `position` on ahead of need, and do not wait for its data.

        PolicyError if it cannot be posted: no memory, no slot, no room for one more span, or a dead server.
        """
        span = self.begin(file, position, wanted)
        span.ahead = True
        await self._send(file, span, "ipc_post")
        return span

    def begin(self, file: FileObject, position: int, wanted: int) -> Span:
        """Make a span from the page of `position` on, and enter it in the file and in the endpoint's array."""
        endpoint, records = self.endpoints.by_number[file.endpoint], self.letting_go.records
        self._check(file)
        self._make_room(file)
        self.letting_go.releases.check_room(endpoint)
        records.reserve(endpoint)
        start = file.page_start(file.page_of(position))
        covering = file.covering(start)
        if covering is not None:
            start = covering.end
        most = min(SPAN_BYTES, self.cache.most * PAGE_SIZE)
        length = min(max(wanted + position - start, 1), most, file.next_start(start) - start)
        length = self._to_page_end(file, start, length)
        state = self.state
        family = self.completion.lists.reserve(self.scheduler.current.process)
        span = Span(state.next_number, start, length, family=family)
        state.next_number += 1
        state.waiting[span.number] = (file.number, span)
        records.insert(endpoint, span)
        self.state.insert(file, span)
        return span

    def _make_room(self, file: FileObject) -> None:
        """Release idle spans until there may be one more, of this file and in all; NO_MEMORY."""
        letting_go = self.letting_go
        while len(file.spans) >= SPANS_OF_FILE:
            if not letting_go.reclaim(only=file):
                raise Shortage(ErrorCode.NO_MEMORY, f"{len(file.spans)} spans of a file are in flight")
        while self.state.blocks >= SPANS:
            if not letting_go.reclaim():
                raise Shortage(ErrorCode.NO_MEMORY, f"{self.state.blocks} spans of files are in flight")

    def _to_page_end(self, file: FileObject, start: int, length: int) -> int:
        """Extend a range to the end of its last page, as far as the file and the next span allow."""
        end = file.page_start(file.page_of(start + length - 1) + 1)
        return min(end, file.next_start(start), file.size) - start

    async def _send(self, file: FileObject, span: Span, post: str) -> None:
        """Post the READ of a span by the routine `post`; without a slot the span fails, and its error is raised.

        With `ipc_post_and_wait` the thread also waits, as one of the span's waiters.
        """
        thread, counters = self.scheduler.current, self.state.counters
        waits = post == "ipc_post_and_wait"
        endpoint = self.endpoints.by_number[file.endpoint]
        block = self.threads.block(thread)
        block["request_endpoint"] = (selectors.GDT_FIRST_ENDPOINT + endpoint.number) * 8
        block["request_operation"] = Operation.READ
        block["request_token"] = span.number
        counters.requests += 1
        counters.ahead += span.ahead
        counters.waits += waits
        if waits:
            span.waiters.append(thread.selector)
        low, high = span.position & 0xFFFF_FFFF, span.position >> 32
        posted = await routine(post, eax=low, ebx=file.server_file, ecx=span.length, edx=high)
        if thread.selector in span.waiters:
            span.waiters.remove(thread.selector)
        if posted.failed:
            counters.requests -= 1
            counters.ahead -= span.ahead
            counters.waits -= waits
            error = error_of_code(ErrorCode(posted.eax))
            self.completion.fail(file, span, error)
            raise error.fresh()

    async def _wait(self, span: Span) -> None:
        """Wait until the data of a span that another thread has requested have arrived or failed."""
        self.state.counters.waits += 1
        with self.hunger.keeping(span):
            await self._until_settled(span)

    async def _until_settled(self, span: Span) -> None:
        thread = self.scheduler.current
        while span.state is SpanState.WAITING:
            self.threads.check_wait(thread)
            span.waiters.append(thread.selector)
            await routine("block", eax=WaitReason.FILE)
            if thread.selector in span.waiters:
                span.waiters.remove(thread.selector)

    async def _after(self, file: FileObject, span: Span, patience: Patience) -> None:
        """A span has FAILED: raise its error, or return if asking again may help.

        It helps if the thread that asked on behalf of all was killed, or if one bad block failed a disk request for
        many.  It may help if memory was short: then release some, or wait for some.
        """
        error = span.error
        assert error is not None
        patience.error = error
        if isinstance(error, GivenUp):
            patience.tries += 1
        elif span.again:
            return
        elif isinstance(error, ServerShortage):
            await self._relieve(file, error)
        elif not isinstance(error, Shortage):
            raise error.fresh()
        elif not self.letting_go.reclaim():
            await self.hunger.starve(patience)

    async def _relieve(self, file: FileObject, error: ServerShortage) -> None:
        """A server has no memory: release idle data that it holds, and tell it; raise `error` if there are none.

        Releasing data in the cache, or in other servers' memory, would not help it.
        """
        endpoint, releases = self.endpoints.by_number[file.endpoint], self.letting_go.releases
        if not self.letting_go.reclaim(server=file.endpoint) and not releases.send_now(endpoint):
            raise error.fresh()
        await releases.said(endpoint)

    async def _complete(self, file: FileObject, span: Span, patience: Patience) -> bool:
        """Whether a READY span may be mapped: it ends with a page.  If not, ask for the rest of its last page.

        Half a page must not be mapped: a program that touches the other half would read zeros.  Only if the server
        does not give the rest is the span mapped as it is (`stuck`), for readers of the bytes that it has.  Errors of
        this reader alone (KILLED, no memory) say nothing about the server, so they do not make the span `stuck`.
        """
        if span.stuck or self.ends_with_page(file, span):
            return True
        with self.hunger.keeping(span):
            more = file.covering(span.end) or await self._ask(file, span.end, 1)
            if more.state is SpanState.WAITING:
                await self._wait(more)
        if more.state is SpanState.FAILED:
            try:
                await self._after(file, more, patience)
            except (DiskError, ServerAnswer, ServerFault) as error:
                if isinstance(error, ServerShortage):
                    raise
                span.stuck = True
        return False

    def ends_with_page(self, file: FileObject, span: Span) -> bool:
        """Whether a span ends where a page of the file does, or the file."""
        return span.end >= file.size or file.page_start(file.page_of(span.end)) == span.end

    def room_to_post(self, file: FileObject) -> bool:
        """Whether a request could be posted without waiting for a slot."""
        endpoint = self.endpoints.by_number[file.endpoint]
        fields = self.slots.block(endpoint)
        return not endpoint.dead and fields["slot_waiters"] == 0 and bool(fields["free"] | fields["unused"])

    def _check(self, file: FileObject) -> None:
        if file.error is not ErrorCode.OK:
            raise error_of_code(file.error)
        if not file.opens:
            raise CallerError(ErrorCode.BAD_HANDLE)  # closed while a thread was reading
