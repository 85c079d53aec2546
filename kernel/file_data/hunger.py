"""Readers that wait for memory which others have: until somebody's data may be let go of, or for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.errors import PolicyError, ServerFault, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Tasks, Thread
from callgate.kernel.file_data.objects import FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.tasks.threads import Threads

TRIES = 100  # spans that a reader waits for until it has the one that it wants; a page takes 8 at most
STARVED_LIMIT = 5_000_000_000  # nanoseconds of virtual time for which a reader waits for others to have memory to spare


@dataclass(slots=True)
class Patience:
    """How long one reader goes on: a server's answers must not make it ask for ever."""

    tries: int = TRIES
    error: PolicyError = field(default_factory=lambda: ServerFault(ErrorCode.BAD_REPLY))  # why it gives up
    until: int = 0  # clock at which it no longer waits for memory; 0 while it has not begun to

    def spend(self) -> None:
        """Go on once more, or raise why not."""
        if not self.tries:
            raise self.error.fresh()
        self.tries -= 1


class Hunger:
    """The readers that have found no memory, and when they try again."""

    def __init__(self, state: FilesState, guest: Guest, tasks: Tasks, threads: Threads) -> None:
        self.state = state
        self.guest = guest
        self.tasks = tasks
        self.threads = threads
        self.scheduler = threads.scheduler

    async def starve(self, patience: Patience) -> None:
        """Wait until others have memory to spare; NO_MEMORY if nobody will, or nobody has for `STARVED_LIMIT`.

        They may be waiting for a server of theirs that does not answer, and this thread has not asked that one.
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
        """Whether data are on their way to somebody, or wait for him to look at them."""
        if self.state.waiting:
            return True
        return any(span.kept for file in self.state.objects.values() for span in file.spans)

    def feed(self, span: Span) -> None:
        """Something has become of a span: if it may be let go of, who has found no memory tries again.

        And if nobody is busy any more, because then nothing else will wake him.
        """
        if self.state.starved and (span.idling or not self.busy()):
            starved, self.state.starved = self.state.starved, []
            self.wake(starved)

    def wake(self, selectors: list[int]) -> None:
        """Wake those of these threads that still live."""
        threads: dict[int, Thread] = self.tasks.threads
        for selector in selectors:
            if selector in threads:
                self.scheduler.wake(threads[selector])

    @contextmanager
    def keeping(self, span: Span) -> Iterator[None]:
        """Have a span left alone, once it is READY, for a reader who is coming for it."""
        span.kept += 1
        try:
            yield
        finally:
            span.kept -= 1
            self.feed(span)
