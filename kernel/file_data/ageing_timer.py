"""The timer of the thread that ages file data: `PERIOD` after anything has been mapped."""

from __future__ import annotations

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.common.record import record
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Thread
from callgate.kernel.tasks.threads import Threads

PERIOD = 250_000_000  # nanoseconds of virtual time between two looks at accessed bits


@record
class AgeingState:
    """Records: the thread that looks, and whether its timer is set."""

    thread: Thread | None = None
    watching: bool = False


class AgeingTimer:
    """Wakes the thread `PERIOD` after anything has been mapped, and not at all with no file open."""

    def __init__(self, state: AgeingState, guest: Guest, threads: Threads) -> None:
        self.state = state
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler

    def start(self) -> None:
        """Make the thread; it sleeps until the timer wakes it."""
        thread = self.threads.create_kernel("ageing", "ageing_thread")
        self.scheduler.note_wait(thread, WaitReason.SLEEP)
        self.state.thread = thread

    def watch(self) -> None:
        """Data are mapped: look at them after `PERIOD`, or at an earlier time that is set already."""
        state = self.state
        if state.thread is not None and not state.watching:
            state.watching = True
            self.scheduler.sleep_until(state.thread, self.guest.now + PERIOD)

    def rest(self) -> None:
        """The last file has been closed: cancel the timer."""
        state = self.state
        if state.watching and state.thread is not None:
            state.watching = False
            self.scheduler.cancel_sleep(state.thread)
