"""The thread that has the machine.

A run of the machine takes as long as it takes, and Unicorn must be used by one thread at a time.  So from the moment
the screen opens, one thread alone touches the system, its history and the workbench: it carries out jobs one after the
other.  The panes never look at the machine: they are drawn from a `Picture`, plain data that a job has collected.  The
engine runs without the interpreter's lock, so the screen answers meanwhile; the two things that it takes from a running
machine are words of memory: the count of instructions, which it shows, and the wish to interrupt, which it sets.

Chunks of instructions in the event loop would do without a thread, but a search through the past is no such chunk: it
would have to be cut into pieces in every room below.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from callgate.tools.debugger.history.interrupts import Interrupts

Job = Callable[[], None]


class Worker:
    """Carries out jobs in order, on its own thread, from `start` to `stop`."""

    def __init__(
        self, interrupts: Interrupts, rested: Callable[[], None], failed: Callable[[BaseException], None]
    ) -> None:
        """`rested` is called when no job is left, `failed` with an error that a job did not expect: it is the last one.

        Both are called on the worker's thread.
        """
        self.interrupts = interrupts
        self.rested = rested
        self.failed = failed
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.waiting = 0  # jobs that have not ended
        self.lock = threading.Lock()
        self.asked = False  # the present job is to end
        self.thread = threading.Thread(target=self._work, name="machine")

    @property
    def busy(self) -> bool:
        """Whether there is a job that has not ended."""
        return self.waiting > 0

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def give(self, job: Job) -> None:
        """Add a job."""
        with self.lock:
            self.waiting += 1
        self.jobs.put(job)

    def interrupt(self) -> None:
        """End the job that is under way at an instruction: what Ctrl-C does in the line debugger."""
        with self.lock:
            if self.waiting:
                self.asked = True
                self.interrupts.ask()

    def stop(self) -> None:
        """End the job that is under way, drop those that wait, and wait for the thread's end."""
        if not self.thread.is_alive():
            return
        while not self.jobs.empty():
            try:
                self.jobs.get_nowait()
            except queue.Empty:
                break
        self.jobs.put(None)
        while self.thread.is_alive():
            self.interrupts.machine.control.interrupt()
            self.thread.join(0.05)

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - the screen ends, and its thread raises it
                self.failed(error)
                return
            finally:
                self._done()

    def _done(self) -> None:
        """A wish to interrupt is for the job that was under way, and not for the next one."""
        with self.lock:
            self.waiting -= 1
            if self.asked:
                self.asked = False
                self.interrupts.forget()
        if not self.waiting:
            self.rested()
