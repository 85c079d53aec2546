"""What one gdb knows and has chosen: features, the selected thread, processes that it has detached from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.tools.debugger.gdb.description import RegisterFile
from callgate.tools.debugger.gdb.introductions import Introductions
from callgate.tools.debugger.gdb.points import Points
from callgate.tools.debugger.gdb.protocol.errors import Refused
from callgate.tools.debugger.gdb.protocol.ids import ThreadId

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Backwards, Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.gdb.monitoring.terminal_commands import TerminalCommands


class Context:
    """One gdb at one debuggee."""

    def __init__(
        self,
        debuggee: Debuggee,
        tell: Callable[[bytes], None],
        history: Backwards | None = None,
        terminal: TerminalCommands | None = None,
    ) -> None:
        """`tell` sends a packet that is no answer; `terminal` has the terminal debugger's commands."""
        self.debuggee = debuggee
        self.tell = tell
        self.history = history
        self.terminal = terminal
        self.registers = RegisterFile(debuggee)
        self.points = Points(debuggee, self.registers)
        self.client: set[str] = set()  # features that gdb has
        self.no_acknowledgements = False
        self.thread_events = False  # by QThreadEvents: gdb is told when a thread has been made or has ended
        self.catches_syscalls = False  # by QCatchSyscalls: gdb is told of a gate's call as a system call
        self.physical = False  # by Qqemu.PhyMemMode: addresses of memory are physical
        self.extended = False  # the connection outlives what gdb is at
        self.begin()

    def begin(self) -> None:
        """The machine stands where gdb has found it, or where it has been switched on again."""
        self.introductions = Introductions(self.debuggee)
        self.selected: DebugThread | None = None  # None: the running one
        self.detached: set[int] = set()  # numbers of processes
        self.told_ended: set[int] = set()  # numbers of threads that have ended for gdb; one may still have the CPU
        self.free = False  # gdb has detached from all: the machine runs until gdb says something
        self.off = False  # gdb has killed the machine, and may switch it on again

    @property
    def thread(self) -> DebugThread:
        """The thread that packets are about: by Hg, else the running one; Refused if it has ended."""
        self.check_on()
        running = self.debuggee.threads.running()
        if self.selected is None or self.selected == running:
            return running
        thread = self.debuggee.threads.by_number(self.selected.number)
        if thread is None:
            raise Refused(f"thread {self.selected.number} has ended")
        return thread

    def check_on(self) -> None:
        """Refused if the machine is off."""
        if self.off:
            raise Refused("the machine has been killed: `run` switches it on")

    def read(self, address: int, length: int) -> bytes:
        """Return memory from an address up to the first byte that is not mapped to RAM."""
        process, memory = self.thread.process, self.debuggee.memory
        return memory.read_physical(address, length) if self.physical else memory.read(process, address, length)

    def write(self, address: int, data: bytes) -> bool:
        """Write memory; False, and nothing is written, if not all of it is there."""
        process, memory = self.thread.process, self.debuggee.memory
        return memory.write_physical(address, data) if self.physical else memory.write(process, address, data)

    def visible_threads(self) -> list[DebugThread]:
        """Return the threads of processes that gdb has not detached from, but for those that have ended for it."""
        return [
            thread
            for thread in self.debuggee.threads
            if not self.off and thread.process.number not in self.detached and thread.number not in self.told_ended
        ]

    def id_of(self, thread: DebugThread) -> str:
        """Return a thread's id in the form that gdb knows."""
        if "multiprocess" in self.client:
            return f"p{thread.process.number + 1:x}.{thread.number:x}"
        return f"{thread.number:x}"

    def find(self, wanted: ThreadId) -> DebugThread:
        """Return a thread that an id means, the running one if it may; Refused if there is none."""
        running = self.debuggee.threads.running()
        if wanted.covers(running.process.number + 1, running.number):
            return running
        for thread in self.debuggee.threads:
            if wanted.covers(thread.process.number + 1, thread.number):
                return thread
        raise Refused("there is no such thread")

    def process(self, gdb_number: int) -> Process:
        """Return a process by gdb's number; Refused if there is none."""
        self.check_on()
        process = self.debuggee.kernel.state.tasks.processes.get(gdb_number - 1)
        if process is None:
            raise Refused(f"there is no process {gdb_number}")
        return process

    def say(self, text: str) -> None:
        """Show a text in gdb's console; while a run is answered."""
        self.tell(b"O" + text.encode("utf-8", "replace").hex().encode())
