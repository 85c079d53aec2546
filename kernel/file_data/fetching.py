"""Fetching file data: which span covers a position, and the READ that is posted if there is none.

The way of a span (`Span`), with the routines in machine code that do the work:

    fetching    `ipc_post_and_wait`: a READ is posted, and the reader waits for its data; `ipc_post` for a READ ahead,
                for which nobody waits (asm/kernel/ipc/post.asm)
    answers     REPLIED: the server's sectors are sorted (`sort_sectors`), locked in the cache, and what is
                missing is counted and read (`disk_submit`); the server goes on then
    completion  `lists_arrived`, from the disk driver's interrupt, counts down by binary search and calls
                FILE_READY at zero; everything in the cache already takes the same way with nothing to count;
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

SPAN_BYTES = MESSAGE_ADDRESSES * PAGE_SIZE  # what one request can bring if it is aligned


class Fetching:
    """Spans, as readers ask for them."""

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

        Whatever the server answers, it is asked `TRIES` times at most.
        """
        patience = Patience()
        asking = False  # and has waited, if the server was behind
        while True:
            if self.scheduler.current.killed:
                raise GivenUp(ErrorCode.KILLED)
            patience.spend()
            self._check(file)
            span = file.covering(position)
            if span is None and file.shift is None:
                # Where pages begin is not known before the first data: one request at a time until then.
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
            # The reply may have covered less than was asked for: look again.

    async def _ask(self, file: FileObject, position: int, wanted: int) -> Span:
        """Post a READ from the page of `position` on, and wait until its data are there or have failed."""
        span = self._begin(file, position, wanted)
        with self.hunger.keeping(span):
            await self._send(file, span, "ipc_post_and_wait")
            await self._until_settled(span)
        return span

    async def post(self, file: FileObject, position: int, wanted: int) -> Span:
        """Post a READ from the page of `position` on before anybody needs it, and do not wait for it."""
        span = self._begin(file, position, wanted)
        span.ahead = True
        await self._send(file, span, "ipc_post")
        return span

    def _begin(self, file: FileObject, position: int, wanted: int) -> Span:
        """Make a span from the page of `position` on, and book it."""
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
        """Let go of idle spans until there may be one more, of this file and in all; NO_MEMORY."""
        letting_go = self.letting_go
        while len(file.spans) >= SPANS_OF_FILE:
            if not letting_go.reclaim(only=file):
                raise Shortage(ErrorCode.NO_MEMORY, f"{len(file.spans)} ranges of a file are on their way")
        while self.state.blocks >= SPANS:
            if not letting_go.reclaim():
                raise Shortage(ErrorCode.NO_MEMORY, f"{self.state.blocks} ranges of files are on their way")

    def _to_page_end(self, file: FileObject, start: int, length: int) -> int:
        """Extend a range to the end of its last page, as far as the file and the next span allow."""
        end = file.page_start(file.page_of(start + length - 1) + 1)
        return min(end, file.next_start(start), file.size) - start

    async def _send(self, file: FileObject, span: Span, post: str) -> None:
        """Post the READ of a span by the routine `post`; without a slot the span fails, and so does this.

        With `ipc_post_and_wait` the thread waits as well, for what wakes the span's waiters.
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
        """Wait until the data of a span that somebody else has asked for are there or have failed."""
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
        """A span has FAILED: raise why, unless it is worth asking again.

        It is if the thread that asked for all has gone on the way, or a disk request for many blocks has failed
        because of one; and it may be for want of memory.
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

        Data that lie in the cache, and other servers' data, would not help it.
        """
        if not self.letting_go.reclaim(server=file.endpoint):
            raise error.fresh()
        await self.letting_go.releases.said(self.endpoints.by_number[file.endpoint])

    async def _complete(self, file: FileObject, span: Span, patience: Patience) -> bool:
        """Whether a READY span ends with a page; if not, ask for the rest of it, which takes the block over.

        A page that is half there must not be mapped: whoever touches the other half would read zeros.  Only if
        the server does not give the rest it stays so, for those who ask for no more than what is there.  That this
        reader may not ask, or that there is no memory, says nothing of the server, and is no other reader's matter.
        """
        if span.stuck or span.end >= file.size or file.page_start(file.page_of(span.end)) == span.end:
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

    def room_to_post(self, file: FileObject) -> bool:
        """Whether a request could be posted without waiting for a slot."""
        endpoint = self.endpoints.by_number[file.endpoint]
        fields = self.slots.block(endpoint)
        return not endpoint.dead and fields["slot_waiters"] == 0 and bool(fields["free"] | fields["unused"])

    def _check(self, file: FileObject) -> None:
        if file.error is not ErrorCode.OK:
            raise error_of_code(file.error)
        if not file.opens:
            raise CallerError(ErrorCode.BAD_HANDLE)  # closed while somebody was reading
