"""The commands of the terminal debugger as commands of `monitor`.

gdb keeps what it has read until it lets the machine run itself.  So a command that would move the machine does not move
it under gdb: where gdb has the same command, that one is named; a step by phase or request, which it has not, is what
gdb's next `continue` or `reverse-continue` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.core.errors import KernelPanic
from callgate.tools.debugger.commands import moving
from callgate.tools.debugger.commands.language import COMMANDS, Command, Desk, carry_out, find
from callgate.tools.debugger.commands.moving import UNTESTED, moment_of
from callgate.tools.debugger.debuggee import Debuggee, Ending, Reason
from callgate.tools.debugger.history import History, HistoryInterrupted
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.stops import EVENT
from callgate.tools.debugger.workbench.workbench import Workbench

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop
    from callgate.tools.debugger.debuggee.going_back import GoingBack

OWN: Final = {
    "step": "step",
    "stepi": "stepi",
    "next": "next",
    "nexti": "nexti",
    "finish": "finish",
    "continue": "continue",
    "until": "advance PLACE, or monitor tbreak EVENT and continue",
    "back step": "reverse-step",
    "back stepi": "reverse-stepi",
    "back next": "reverse-next",
    "back nexti": "reverse-nexti",
    "back out": "reverse-finish",
    "back continue": "reverse-continue",
    "commands": "commands, of its own breakpoints",
    "frame": "frame",
    "up": "up",
    "down": "down",
    "ignore": "ignore, of its own breakpoints",
    "set": "set $eax = 5 and set {int}ADDRESS = 5",
    "quit": "detach, disconnect or kill",
}
"""What gdb calls the commands that it has itself: they change what it believes to know, or belong to its own runs."""
LOOKS: Final = ("where",)  # commands among those that move that do not
FORWARD, BACKWARD = "continue", "reverse-continue"
POLL_SECONDS: Final = 0.05  # between two looks whether gdb has sent Ctrl-C


@dataclass(frozen=True, slots=True)
class Armed:
    """A move that waits for gdb to let the machine run: the line, and the command of gdb that it waits for."""

    line: str
    resume: str


class GdbWorkbench(Workbench):
    """A workbench on the debuggee of gdb; it remembers how its last run ended."""

    stopped: Stop | None = None

    def run(self) -> Stop:
        """Run on to what ends it."""
        self.stopped = super().run()
        return self.stopped

    def take_stop(self) -> Stop | None:
        """Return how the last run ended, once; None if there was none."""
        stop, self.stopped = self.stopped, None
        return stop


class TerminalCommands:
    """The terminal debugger's commands at the system that gdb drives, with stops of their own."""

    def __init__(self, debuggee: Debuggee, history: History, back: GoingBack) -> None:
        self.debuggee = debuggee
        self.history = history
        self.back = back
        self.armed: Armed | None = None
        self.desk: Desk | None = None

    def close(self) -> None:
        """Remove the stops, and forget what waits."""
        self.armed = None
        if self.desk is not None:
            self.desk.bench.stops.clear()

    def names(self) -> dict[str, str]:
        """Return what can be typed, with its purpose: the first name of each command with its arguments."""
        return {f"{entry.names[0]} {entry.arguments}".strip(): entry.purpose for entry in COMMANDS}

    def words(self) -> set[str]:
        """Return the first words of all names."""
        return {name.split()[0] for entry in COMMANDS for name in entry.names}

    def run(self, line: str, say: Callable[[str], None], wanted: Callable[[], bool]) -> None:
        """Carry a line out, or have it wait for gdb; ValueError in words.  `wanted()`: gdb has sent Ctrl-C."""
        try:
            entry, rest = find(line)
            if entry.names[0] in OWN:
                raise CommandError(f"gdb does this itself, and has to know of it: {OWN[entry.names[0]]}")
            if self._moves(entry):
                self.armed = Armed(line, self._direction(entry, rest))
                say(f"type {self.armed.resume}: it will be {line!r}\n")
                return
            before = self.history.moment
            with self._interruptible(wanted):
                self._carry_out(line, say)
            if self.history.moment != before:
                self.history.go(before)
        except CommandError as error:
            raise ValueError(str(error)) from None

    def move(self, resume: str, say: Callable[[str], None], wanted: Callable[[], bool]) -> Ending | None:
        """Carry out the move that waits, if gdb lets the machine run in its direction; None if there is none."""
        armed, self.armed = self.armed, None
        if armed is None or self.debuggee.final is not None:
            return None
        if armed.resume != resume:
            say(f"{armed.line!r} waited for {armed.resume}; it is forgotten\n")
            return None
        bench = self._bench()
        bench.take_stop()
        try:
            with self._interruptible(wanted):
                self._carry_out(armed.line, say)
        except CommandError as error:
            say(f"{error}\n")
        except KernelPanic as panic:
            self.debuggee.final = Ending(Reason.PANIC, text=str(panic))
            return self.debuggee.final
        self.back.moved()
        stop = bench.take_stop()
        if stop is not None and (ending := self.debuggee.ending_of(stop)).final:
            self.debuggee.final = ending
            return ending
        begin = resume == BACKWARD and self.history.moment == self.history.first
        return Ending(Reason.BEGIN if begin else Reason.OTHER)

    def tell(self, ending: Ending, say: Callable[[str], None]) -> None:
        """Say which of these stops has ended a run of gdb's, if it was one; one for once is removed."""
        if self.desk is None or ending.stop is None:
            return
        stop = ending.stop
        known = self.desk.bench.stops.found(stop)
        if known is not None:
            what = f"event {stop.detail[1]}" if stop.reason == EVENT else known.text
            say(f"monitor's stop {known.number}: {what}\n")
            problem = self.desk.bench.stops.untested(known, stop)
            if problem:
                say(f"{UNTESTED}{problem}\n")

    def _bench(self) -> GdbWorkbench:
        if self.desk is None:
            bench = GdbWorkbench(self.debuggee.system, self.history, self.debuggee)
            self.back.reasons.add(EVENT)
            self.desk = Desk(bench, lambda _line: None)
        assert isinstance(self.desk.bench, GdbWorkbench)
        return self.desk.bench

    def _carry_out(self, line: str, say: Callable[[str], None]) -> None:
        self._bench()
        assert self.desk is not None
        self.desk.say = lambda text: say(f"{text}\n")
        try:
            carry_out(self.desk, line)
        except HistoryInterrupted:
            raise CommandError("interrupted; the machine stands where it stood") from None

    def _moves(self, entry: Command) -> bool:
        return entry.action.__module__ == moving.__name__ and entry.names[0] not in LOOKS

    def _direction(self, entry: Command, rest: str) -> str:
        """Return the command of gdb that goes where a move goes; CommandError for a place that is none."""
        if entry.names[0] != "goto":
            return BACKWARD if entry.names[0].startswith("back") else FORWARD
        return FORWARD if moment_of(self._bench(), rest) > self.history.moment else BACKWARD

    @contextmanager
    def _interruptible(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Let gdb's Ctrl-C end what runs meanwhile.

        The connection is looked at on another thread; this one reads nothing from it until the command has ended.
        """
        machine, ended, came = self.debuggee.machine, threading.Event(), threading.Event()
        asked, machine.on_interrupt = machine.on_interrupt, None

        def look() -> None:
            while not ended.wait(POLL_SECONDS):
                if wanted():
                    came.set()
                    machine.control.interrupt()
                    return

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            machine.on_interrupt = asked
            if came.is_set():
                machine.control.interrupted = False
