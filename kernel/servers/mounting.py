"""Mounting side by side: a kernel thread for each disk and for each volume, a deadline, reports in the order of disks.

No volume waits for another one's server.  While the system boots, log lines of disks and volumes come in their order: a
line of a later one waits until those before it have been decided. The shell does not wait for ever: see `settled`.
Later lines come as things happen.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import field
from typing import Any, Final

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.common.record import record
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import Process
from callgate.kernel.tasks.threads import Threads

MOUNT_DEADLINE: Final = 2_000_000_000  # nanoseconds of virtual time that a server has to mount its volume
GRACE: Final = 20_000_000  # ns for which an interactive shell waits for other volumes after the first is mounted


@record
class Report:
    """The log lines of a disk or volume that is being mounted, in the order of (place, partition)."""

    place: int
    partition: int  # 0: the disk itself
    name: str
    lines: list[tuple[str, bool]] = field(default_factory=list)  # and whether it is urgent
    done: bool = False


@record
class MountingState:
    """Records: the reports of mounts under way, and the threads that wait for them."""

    reports: list[Report] = field(default_factory=list)
    in_order: bool = True  # the system boots
    first_at: int | None = None  # clock at which the first volume of a disk was mounted
    waiter: int = 0  # selector


class Mounting:
    """Jobs that mount."""

    def __init__(self, state: MountingState, guest: Guest, threads: Threads, log: Log) -> None:
        self.state = state
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.log = log
        self.deadline = MOUNT_DEADLINE

    def start(self, report: Report, work: Callable[[Report], Coroutine[Any, Any, None]]) -> bool:
        """Have a kernel thread do `work`; False, and a line in the log, if there is no thread for it."""
        try:
            thread = self.threads.start_job(f"mount {report.name}", lambda: self._job(report, work))
        except PolicyError as error:
            self.log(f"{report.name}: not mounted: no thread for it ({error})")
            return False
        insort(self.state.reports, report, key=lambda other: (other.place, other.partition))
        self.scheduler.wake(thread)
        return True

    async def _job(self, report: Report, work: Callable[[Report], Coroutine[Any, Any, None]]) -> None:
        await work(report)
        report.done = True
        self._flush()
        self.scheduler.host_wake(self.state.waiter)

    async def settled(self, *, first: bool) -> None:
        """Wait until every mount has succeeded or failed: a script sees every volume.

        With `first` no longer than `GRACE` after the first volume is mounted, nor than a mount's deadline: a user wants
        a prompt. From then on log lines come as things happen.
        """
        state, thread, scheduler = self.state, self.scheduler.current, self.scheduler
        last = self.guest.now + self.deadline
        state.waiter = thread.selector
        while any(not report.done for report in state.reports):
            if first:
                until = last if state.first_at is None else min(last, state.first_at + GRACE)
                if self.guest.now >= until:
                    break
                scheduler.sleep_until(thread, until)
            await routine("block", eax=WaitReason.SLEEP)
            scheduler.cancel_sleep(thread)
        state.waiter, state.in_order = 0, False
        self._flush()

    def there(self) -> None:
        """A volume of a disk has been mounted."""
        state = self.state
        if state.first_at is None:
            state.first_at = self.guest.now
            self.scheduler.host_wake(state.waiter)

    # What is said.

    def say(self, report: Report, line: str, *, urgent: bool = False) -> None:
        """Log a line of a disk or volume that is being mounted, now or when it is its turn."""
        if self.state.in_order and report is not self.state.reports[0]:
            report.lines.append((line, urgent))
        else:
            self._log(line, urgent)

    def say_of(self, name: str, lines: Sequence[str], server: Process, *, urgent: bool = False) -> None:
        """Log a line from the server of a volume, whether the volume is being mounted or not."""
        for report in self.state.reports:
            if report.partition and report.name == name and not report.done:
                if self.log.admits(server, len(lines), urgent=urgent):
                    for line in lines:
                        self.say(report, line, urgent=urgent)
                return
        (self.log.urgent if urgent else self.log)(lines, server)

    def _log(self, line: str, urgent: bool) -> None:
        (self.log.urgent if urgent else self.log)(line)

    def _flush(self) -> None:
        """Log the lines that need no longer wait for others, and forget mounts that have ended."""
        state = self.state
        for report in list(state.reports):
            lines, report.lines = report.lines, []
            for line, urgent in lines:
                self._log(line, urgent)
            if report.done:
                state.reports.remove(report)
            elif state.in_order:
                return
