"""How gdb comes to know a process: by two events after which it goes on by itself.

gdb adds an inferior for a process that it sees the first time, but with an architecture guessed from the program's
file: on most hosts that of Linux, which has other registers and no list of libraries.  After `exec` it asks for the
target's description again and reads the program; after `library` it reads the kernel's symbols as those of a library
(measured with gdb 13 and 18).  Both take no instruction of the guest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from callgate.tools.debugger.debuggee.threads import as_thread
from callgate.tools.debugger.gdb.vfile import content, exec_file

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread


class Introductions:
    """The events by which gdb hears of the processes that it does not know yet."""

    def __init__(self, debuggee: Debuggee) -> None:
        """Have the processes that gdb finds when it connects introduced when it lets the machine run."""
        self.debuggee = debuggee
        self.waiting: deque[tuple[str, Process]] = deque()
        for process in debuggee.threads.processes():
            if process.number:
                self.add(process)

    def add(self, process: Process) -> None:
        """Introduce a process."""
        self.waiting += [("exec", process), ("library", process)]

    def next(self, client: set[str]) -> tuple[DebugThread, str] | None:
        """Return the next event for a gdb with these features: the thread and what to say; None if there is none."""
        while self.waiting:
            event, process = self.waiting.popleft()
            if event == "exec":
                name = exec_file(self.debuggee, process)
                if not name or "exec-events" not in client:
                    continue
                content(self.debuggee, name)  # it may have to be made: gdb waits longer for a stop than for a file
                event = f"exec:{name.encode().hex()};"
            else:
                event = "library:;"
            if process.threads:
                return as_thread(process.threads[0]), event
        return None
