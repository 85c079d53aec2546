"""The threads of a system, and which of them the CPU executes.

A thread executes if the CPU stands on its kernel stack, or in ring 3 if it is the current one.  That differs for a few
instructions from what policy calls current: policy chooses a thread, and `switch` goes to it later.  Before the first
switch the CPU belongs to no thread; there is one named "boot" for it, of the kernel's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import KERNEL_STACKS
from callgate.kernel.abi.selectors import GDT_FIRST_THREAD, MAX_THREADS
from callgate.kernel.abi.thread import KERNEL_STACK_SPAN
from callgate.kernel.watching.thread_view import ThreadView

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process, Thread
    from callgate.kernel.system import System

BOOT_NUMBER: Final = 0xFFFF  # of the thread that stands for the CPU before there are threads; no thread has it
KERNEL_PROCESS: Final = 0


@dataclass(frozen=True, slots=True)
class DebugThread:
    """One thread: `record` is None for the CPU before the first switch.  Equal if it is the same thread."""

    number: int
    name: str = field(compare=False)
    process: Process = field(compare=False)
    record: Thread | None = field(compare=False)  # another one after a history has gone back
    selector: int = 0

    def __repr__(self) -> str:
        return f"<thread {self.number} {self.name!r} of process {self.process.number}>"


class ThreadList:
    """The threads of one system."""

    def __init__(self, system: System) -> None:
        self.kernel = system.kernel
        self.machine = system.machine
        self.known: tuple[int, DebugThread] | None = None  # the running one, at a count of retired instructions

    def __iter__(self) -> Iterator[DebugThread]:
        """Yield the threads by number; one that has ended only while the CPU is still on its stack."""
        running = self.running()
        known = [as_thread(record) for record in self.kernel.state.tasks.threads.values()]
        if running not in known:
            known.append(running)
        return iter(sorted(known, key=lambda thread: thread.number))

    def running(self) -> DebugThread:
        """Return the thread that the CPU executes; it can only change by an instruction, or by hand (`forget`)."""
        count = int(self.machine.state.count)
        if self.known is None or self.known[0] != count:
            self.known = count, self._find_running()
        return self.known[1]

    def forget(self) -> None:
        """The CPU's state has been changed by something other than an instruction."""
        self.known = None

    def _find_running(self) -> DebugThread:
        _, esp, _, cpl, _ = self.machine.cpu.stack()
        record = None
        if cpl == 0:
            index = (esp - KERNEL_STACKS) // KERNEL_STACK_SPAN
            if 0 <= index < MAX_THREADS:
                record = self._by_selector((GDT_FIRST_THREAD + index) * 8)
        if record is None:
            record = self._by_selector(self.kernel.guest.kernel_words["current"])
        if record is None:
            process = self.kernel.state.tasks.processes[KERNEL_PROCESS]
            return DebugThread(BOOT_NUMBER, "boot", process, None)
        return as_thread(record)

    def by_number(self, number: int) -> DebugThread | None:
        """Return a thread, None if there is none of this number."""
        return next((thread for thread in self if thread.number == number), None)

    def of_process(self, number: int) -> list[DebugThread]:
        """Return the threads of a process, none if there is no such process."""
        return [thread for thread in self if thread.process.number == number]

    def processes(self) -> list[Process]:
        """Return the processes by number, the kernel's first."""
        return [process for _, process in sorted(self.kernel.state.tasks.processes.items())]

    def view(self, thread: DebugThread) -> ThreadView:
        """Return a thread as `System.thread` does; LookupError for the CPU before the first switch."""
        if thread.record is None:
            raise LookupError("the CPU has not switched to a thread yet")
        return ThreadView(self.kernel, thread.record)

    def state(self, thread: DebugThread) -> str:
        """Return a thread's state in words: "running, ring 3", "ready", "waits for REPLY"."""
        if thread == self.running():
            return f"running, ring {self.machine.cpu.cpl}"
        state = self.view(thread).state
        if state == "waits for NOTHING":
            return "has not run yet"
        # Policy has chosen it (or it was chosen before), but the CPU has not switched to it.
        return "chosen, not switched to yet" if state == "running" else state

    def _by_selector(self, selector: int) -> Thread | None:
        tasks = self.kernel.state.tasks
        record = tasks.threads.get(selector)
        if record is None:
            record = next((dead for dead in tasks.dead_threads if dead.selector == selector), None)
        return record


def as_thread(record: Thread) -> DebugThread:
    """Return policy's record of a thread as debuggers see it."""
    return DebugThread(record.number, record.name, record.process, record, record.selector)
