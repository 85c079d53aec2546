"""How gdb leaves processes and comes to them: detach, kill, attach, run.

In extended mode (`target extended-remote`) the connection outlives them: after `detach` from all, the machine runs
freely until gdb attaches to one; after `kill` of the kernel it is off until `run` or `starti` switches it on again.
Switching it on is going back to the beginning of its history, from where another run begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.tools.debugger.debuggee.threads import KERNEL_PROCESS
from callgate.tools.debugger.gdb.introductions import Introductions
from callgate.tools.debugger.gdb.protocol.errors import Refused, Unknown
from callgate.tools.debugger.gdb.protocol.ids import number
from callgate.tools.debugger.gdb.stops import SIGTRAP, reply
from callgate.tools.debugger.gdb.vfile import FOLDER

if TYPE_CHECKING:
    from callgate.tools.debugger.gdb.context import Context

OK = b"OK"
DETACHED, KILLED = "detached", "killed"


class Lifetimes:
    """What gdb is at.  `ended` is how the session ends: DETACHED from all processes, or KILLED; else empty."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.debuggee = context.debuggee
        self.ended = ""

    def extend(self, _text: str = "") -> bytes:
        """Answer `!`."""
        self.context.extended = True
        return OK

    def detach(self, text: str) -> bytes:
        """Answer `D` and `D;PID`."""
        if text.startswith(";") and not self.context.off:
            self.context.detached.add(number(text[1:]) - 1)  # gdb may know one that has ended
            if self.context.visible_threads():
                return OK
        if not self.context.extended:
            self.ended = DETACHED
        self.context.free = not self.context.off
        return OK

    def kill(self, _text: str = "") -> bytes:
        """Carry out `k`, which has no answer."""
        if self.context.extended:
            self.context.off = True
        else:
            self.ended = KILLED
        return b""

    def kill_process(self, text: str) -> bytes:
        """Answer `vKill;PID`."""
        if self.context.off:
            return OK  # all of them have been killed
        process = self.context.process(number(text))
        if process.number == KERNEL_PROCESS:
            self.kill()
        else:
            self.context.detached.add(process.number)
            self.debuggee.kernel.processes.end_by_hand(process)
        return OK

    def attach(self, text: str) -> bytes:
        """Answer `vAttach;PID`: the machine stops, with all of its processes."""
        context = self.context
        process = context.process(number(text))
        if not context.free and process.number not in context.detached:
            raise Refused(f"gdb is at process {number(text)} already, as at all others")
        if not process.threads:
            raise Refused(f"process {number(text)} has no thread")
        context.free = False
        context.detached.clear()
        context.introductions = Introductions(self.debuggee)
        threads = self.debuggee.threads.of_process(process.number)
        running = self.debuggee.threads.running()
        return reply(context, SIGTRAP, running if running in threads else threads[0])

    def run(self, text: str) -> bytes:
        """Answer `vRun;NAME;ARGUMENT…`, in hexadecimal: the machine stands before its first instruction."""
        name, *arguments = (bytes.fromhex(part).decode("utf-8", "replace") for part in text.split(";"))
        if name and not name.startswith(FOLDER):  # gdb names what the selected process runs
            raise Refused(f"the machine boots its kernel, and not {name[:80]}: leave `remote exec-file` empty")
        if not self.context.off and self.debuggee.final is None:
            raise Refused("the kernel still runs, as inferior 1: type `inferior 1`, then `run` or `starti`")
        if arguments:
            raise Refused("the machine takes its commands from the command line (-c), and none from `run`")
        self.restart()
        return reply(self.context, SIGTRAP, self.debuggee.threads.running())

    def restart(self) -> None:
        """Have the machine stand before its first instruction; Unknown unless in extended mode."""
        context = self.context
        if not context.extended:
            raise Unknown
        if context.history is None:
            raise Refused("this machine keeps no history, so it cannot begin again")
        context.history.restart()
        context.begin()
