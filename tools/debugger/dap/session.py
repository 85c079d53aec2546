"""One debugged system or bare machine: what moves it, and what an editor is told when it stops."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.kernel.core.errors import KernelPanic
from callgate.tools.debugger.commands.moving import BEGINNING, reason
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.dap.points import Numbers, Points
from callgate.tools.debugger.dap.protocol import RequestError
from callgate.tools.debugger.dap.sources import Sources
from callgate.tools.debugger.dap.views import Views
from callgate.tools.debugger.debuggee import breakpoints, debuggee, watchpoints
from callgate.tools.debugger.history import HistoryInterrupted
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.stops import EVENT, REACHED
from callgate.tools.debugger.workbench.workbench import OPENING_INTERRUPTED, Workbench

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop
    from callgate.tools.debugger.dap.protocol import Sender
    from callgate.tools.debugger.history import History, Moment
    from callgate.tools.debugger.target import Subject

REASONS: Final = {
    breakpoints.HIT: "breakpoint",
    watchpoints.HIT: "data breakpoint",
    EVENT: "exception",
    REACHED: "step",
    "position": "step",
    "interrupted": "pause",
}
"""DAP's reasons of stops; what is not here has ended the system, for now: one can go back."""
Move = Callable[[], "Stop | bool | None"]


class SystemEnded(Exception):
    """The system was to run on where it has ended."""


class Lines(io.StringIO):
    """What the prompt has written."""

    def take(self) -> str:
        """Return what has been written since the last time."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class Session:
    """A system or bare machine under an editor.

    `run` is what DAP's requests call; each ends with an event that says where it is.
    """

    def __init__(self, sender: Sender, subject: Subject, history: History, numbers: Numbers) -> None:
        self.sender = sender
        self.bench = Workbench(subject, history)
        self.lines = Lines()
        self.prompt = Prompt(self.bench, self.lines)
        self.sources = Sources(self.bench)
        self.points = Points(self.bench, self.sources, numbers)
        self.views = Views(self.bench, self.sources)
        self.ended_at: Moment | None = None  # where the system has ended, after that has been said
        try:
            if not self.bench.open():
                self.say(OPENING_INTERRUPTED)
        except CommandError as error:
            self.close()
            raise RequestError(str(error)) from None

    def close(self) -> None:
        """Take the debugger out of the system, and close it."""
        self.bench.close()
        self.bench.debuggee.target.close()

    # Moving.

    def move(self, move: Move, wanted: str = "step") -> None:
        """Make a move and say where it has ended; `wanted` is the reason if nothing else has ended it."""
        try:
            with self.bench.following():
                stop = move()
        except SystemEnded:
            self.sender.event("exited", exitCode=self.bench.debuggee.target.exit_code or 0)
            self.sender.event("terminated")
            return
        except HistoryInterrupted:
            self.stopped("pause", "the search was interrupted; the system stands where it stood")
            return
        except KernelPanic as panic:
            self.stopped("exception", "kernel panic", str(panic))
            return
        except CommandError as error:
            self.stopped("pause", str(error))
            return
        if stop is None or stop is False:
            self.stopped("entry", BEGINNING)
        elif stop is True:
            self.stopped(wanted)
        elif stop.reason in REASONS:
            self._stopped_by(stop)
        else:
            self.ended_at = self.bench.history.moment
            self.stopped("pause", "; ".join(reason(self.prompt.desk, stop)) or stop.reason)

    def _stopped_by(self, stop: Stop) -> None:
        why = REASONS[stop.reason]
        hit = self.points.hit(stop)
        text = "; ".join(reason(self.prompt.desk, stop)) or None
        if stop.reason == EVENT and hit is None:
            why = "step"  # by phase
        fields = {} if hit is None else {"hitBreakpointIds": [hit.number]}
        self.stopped(why if hit is None else hit.reason, text, text if why == "exception" else None, **fields)

    def stopped(self, why: str, description: str | None = None, text: str | None = None, **more: object) -> None:
        """Say where the system stands."""
        self.views.forget()
        for changed in self.points.resolve():
            self.sender.event("breakpoint", reason="changed", breakpoint=changed)
        said = {"description": description} if description else {}
        said |= {"text": text} if text else {}
        thread = self.bench.debuggee.threads.running().number
        self.sender.event("stopped", reason=why, threadId=thread, allThreadsStopped=True, **said, **more)

    def go(self) -> Stop:
        """Run on; breakpoints in programs that start meanwhile are set then.  SystemEnded where it has ended."""
        if self.bench.history.moment == self.ended_at:
            raise SystemEnded
        self.bench.debuggee.report_starts = self.points.waiting
        while (stop := self.bench.run()).reason == debuggee.STARTED:
            for changed in self.points.resolve():
                self.sender.event("breakpoint", reason="changed", breakpoint=changed)
            self.bench.debuggee.report_starts = self.points.waiting
        return stop

    def forward(self, granularity: str, step: Callable[[], Stop]) -> Move:
        """Return a step as long as an editor wants it: an instruction, or until another source line."""
        return step if granularity == "instruction" else lambda: self.bench.lines.forward(step)

    def backward(self, granularity: str, step: Callable[[], bool]) -> Move:
        """Return a step back by an instruction, or to the beginning of a source line."""
        return step if granularity == "instruction" else lambda: self.bench.lines.backward(step)

    # The console.

    def say(self, text: str) -> None:
        """Write text to the editor's console, if there is any."""
        if text.strip():
            self.sender.event("output", category="console", output=text.rstrip("\n") + "\n")

    def console(self, line: str, *, quietly: bool = False) -> str:
        """Carry out a command of the debugger; RequestError.  If it has moved the system, that is said."""
        before = self.bench.history.moment.position
        try:
            self.prompt.line(line)
        except CommandError as error:
            raise RequestError(str(error)) from None
        finally:
            if self.bench.history.moment.position != before and not quietly:
                self.stopped("step", line)
        return self.lines.take().rstrip("\n")

    def set_register(self, name: str, value: str) -> str:
        """Change a register or a field as `set` does; return its value; RequestError."""
        self.say(self.console(f"set {name} = {value}"))
        return self.views.evaluated(name)
