"""Steps by source line, as gdb has them: to the beginning of another line, forward and backward.

Handlers of interrupts and exceptions are passed through.  Where no line is known, a step is one instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from callgate.kernel.machine import Stop
from callgate.tools.debugger.workbench.stops import REACHED

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine
    from callgate.kernel.machine.observation.stream import Event
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.history import History, Moment
    from callgate.tools.debugger.workbench.code import Code

INTERRUPT_RETURNS = ("iretd", "iret")


class Moving(Protocol):
    """What is needed of a workbench."""

    machine: Machine
    debuggee: Debuggee
    history: History
    code: Code

    def until_at(self, address: int, esp: int, thread: int) -> Stop:
        """Run until a thread is at an address, with its stack at `esp`."""
        ...

    def go_to(self, moment: Moment) -> None:
        """Go to a moment."""
        ...

    def back_step(self) -> bool:
        """Go to the position before; False at the beginning."""
        ...


class Line(NamedTuple):
    """A line of a source file."""

    file: str
    number: int


class Place(NamedTuple):
    """Where a thread stands."""

    thread: int
    eip: int
    esp: int


class Lines:
    """Steps by line on one workbench."""

    def __init__(self, bench: Moving) -> None:
        self.bench = bench
        self.machine = bench.machine
        self.delivered: Moment | None = None  # where the last handler that was gone back over was entered

    def here(self) -> Line | None:
        """Return the line of the next instruction, None if it is not known."""
        process = self.bench.debuggee.threads.running().process
        found = self.bench.code.line(self.machine.cpu.eip, process)
        return None if found is None else Line(found.file, found.line)

    def place(self) -> Place:
        """Return where the running thread stands."""
        return Place(self.bench.debuggee.threads.running().number, self.machine.cpu.eip, self.machine.cpu.esp)

    def forward(self, move: Callable[[], Stop]) -> Stop:
        """Step to another line by `Workbench.step`, or `over`."""
        begin = self.here()
        while True:
            before, position = self.place(), self.machine.position
            stop = move()
            if stop.reason == "position" and self.machine.position.retired == position.retired:
                stop = self.bench.until_at(before.eip, before.esp, before.thread)  # a handler runs through
                if stop.reason != REACHED:
                    return stop
                continue
            if stop.reason not in ("position", REACHED) or begin is None or self.here() != begin:
                return stop

    def backward(self, move: Callable[[], bool]) -> bool:
        """Step back to the beginning of the line before, or of this one, by `back_step` or `back_over`.

        False at the beginning of the history.
        """
        if not self._back(move):
            return False
        line = self.here()
        while line is not None:
            moment, self.delivered = self.bench.history.moment, None
            if not self._back(move):
                break
            if self.here() != line:
                self.bench.go_to(self.delivered or moment)
                break
        return True

    def _back(self, move: Callable[[], bool]) -> bool:
        """Make a move; where it has come to the end of a handler, go back to where that was entered."""
        after, origin = self.place(), self.bench.history.moment
        if not move():
            return False
        instruction = self.bench.code.current()
        if instruction is None or instruction.mnemonic not in INTERRUPT_RETURNS or self.place().thread != after.thread:
            return True
        landed = self.bench.history.moment
        self.bench.go_to(origin)
        with self._delivering(after):
            found = self.bench.history.back_to(lambda stop: stop.reason == REACHED)
        if found is None:  # no handler: another way to return by IRETD
            self.bench.go_to(landed)
            return True
        while self.machine.position.delivered:
            self.bench.back_step()
        self.delivered = self.bench.history.moment
        return self._back(move)

    @contextmanager
    def _delivering(self, after: Place) -> Iterator[None]:
        """End a run where something is delivered at a place."""

        def delivered(event: Event) -> None:
            eip = event.fields.get("eip", self.machine.cpu.eip)
            if eip == after.eip and self.bench.debuggee.threads.running().number == after.thread:
                self.machine.request_stop(REACHED)

        self.machine.stream.subscribe(delivered, ["interrupt", "exception"], again=True)
        try:
            yield
        finally:
            self.machine.stream.unsubscribe(delivered)
