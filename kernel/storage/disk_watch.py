"""The watch over disk commands that never end: a kernel thread that checks the commands in flight from time to time.

A command that is in flight at two checks, and has shown no sign of life between them, is given up (`watch_thread` in
asm/kernel/disk/disk_watch.asm).
"""

from __future__ import annotations

from callgate.kernel.common.record import record
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Thread
from callgate.kernel.tasks.scheduler import Scheduler
from callgate.kernel.tasks.threads import Threads

#: Nanoseconds of virtual time between two checks.  A command is given up after 10 to 20 seconds, which is more than a
#: drive takes for a bad sector.
WATCH_PERIOD = 10_000_000_000


@record
class DiskWatchState:
    """Records: the thread that checks, and whether it is due to."""

    thread: Thread | None = None
    watching: bool = False


class DiskWatch:
    """Decides when the thread checks: as long as a command is in flight, and not at all otherwise."""

    def __init__(self, state: DiskWatchState, guest: Guest, threads: Threads, scheduler: Scheduler) -> None:
        self.state = state
        self.guest = guest
        self.threads = threads
        self.scheduler = scheduler

    def start(self) -> None:
        """Make the thread."""
        self.state.thread = self.threads.create_kernel("watch", "watch_thread")
        self.scheduler.wake(self.state.thread)

    def begin(self) -> None:
        """A command is in flight from now on: check it in a while."""
        state = self.state
        if state.thread is not None and not state.watching:
            state.watching = True
            self.scheduler.sleep_until(state.thread, self.guest.now + WATCH_PERIOD)

    def rest(self) -> None:
        """No command is in flight: disks need no timer."""
        state = self.state
        if state.watching and state.thread is not None:
            state.watching = False
            self.scheduler.cancel_sleep(state.thread)

    def looked(self, *, in_flight: bool) -> None:
        """The thread has checked: it checks again if a command is in flight."""
        self.state.watching = False
        if in_flight:
            self.begin()
