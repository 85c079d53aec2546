"""Readers that wait for memory which others hold: until data can be released, or for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.common.record import record
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.errors import PolicyError, ServerFault, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Tasks, Thread
from callgate.kernel.file_data.objects import FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.tasks.threads import Threads

TRIES = 100  # spans that a reader waits for until it has the one that it wants; a page takes 8 at most
STARVED_LIMIT = 5_000_000_000  # nanoseconds of virtual time: the longest wait of a reader for memory that others hold


@record(eq=True)
class Patience:
    """Bounds the retries of one reader: a server's answers must not make it ask for ever."""

    tries: int = TRIES
    error: PolicyError = field(default_factory=lambda: ServerFault(ErrorCode.BAD_REPLY))  # why it gives up
    until: int = 0  # clock at which it stops waiting for memory; 0 before its first wait

    def spend(self) -> None:
        """Count one try; raise `error` if none is left."""
        if not self.tries:
            raise self.error.fresh()
        self.tries -= 1


class Hunger:
    """Has readers that have found no memory wait, and wakes them to try again."""

    def __init__(self, state: FilesState, guest: Guest, tasks: Tasks, threads: Threads) -> None:
        self.state = state
        self.guest = guest
        self.tasks = tasks
        self.threads = threads
        self.scheduler = threads.scheduler

    async def starve(self, patience: Patience) -> None:
        """Wait until others may have released memory; NO_MEMORY if none of them will, or after `STARVED_LIMIT`.

        The limit is needed because the others may wait for a server that does not answer and that this thread has not
        asked.  KILLED or INTERRUPTED if it must not wait.
        """
        thread = self.scheduler.current
        now = self.guest.now
        patience.until = patience.until or now + STARVED_LIMIT
        if not self.busy() or now >= patience.until:
            raise Shortage(ErrorCode.NO_MEMORY)
        self.threads.check_wait(thread)
        patience.tries += 1
        self.state.starved.append(thread.selector)
        self.scheduler.sleep_until(thread, patience.until)
        await routine("block", eax=WaitReason.FILE)
        self.scheduler.cancel_sleep(thread)
        if thread.selector in self.state.starved:
            self.state.starved.remove(thread.selector)

    def busy(self) -> bool:
        """Whether any data are in flight, or kept for a reader that has not used them yet."""
        if self.state.waiting:
            return True
        return any(span.kept for file in self.state.objects.values() for span in file.spans)

    def feed(self, span: Span) -> None:
        """Call when a span changes state: if it can be released, wake the threads that wait for memory: they retry.

        Also wake them if nothing is in flight or kept, because then nothing else will.
        """
        if self.state.starved and (span.idling or not self.busy()):
            starved, self.state.starved = self.state.starved, []
            self.wake(starved)

    def wake(self, selectors: list[int]) -> None:
        """Wake the threads with these selectors that still live."""
        threads: dict[int, Thread] = self.tasks.threads
        for selector in selectors:
            if selector in threads:
                self.scheduler.wake(threads[selector])

    @contextmanager
    def keeping(self, span: Span) -> Iterator[None]:
        """Keep a span from being released, once it is READY, until its reader has used it."""
        span.kept += 1
        try:
            yield
        finally:
            span.kept -= 1
            self.feed(span)
