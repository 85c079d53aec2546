"""The history of one system or bare machine: runs forward, and goes to any moment that has been."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from callgate.kernel.machine import Stop
from callgate.kernel.machine.engine.control import PAUSE
from callgate.kernel.machine.memory.outside import Forgotten, Outside, SetUp
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.machine.snapshot import NotQuiescent
from callgate.kernel.system import System
from callgate.tools.debugger.history.checkpoints import Checkpoint, Checkpoints, Moment
from callgate.tools.debugger.history.interrupts import HistoryInterrupted
from callgate.tools.debugger.history.pacing import (
    CHECKPOINT_SECONDS,
    CLOSE,
    FAR,
    FIRST_PIECE,
    FIRST_PIECE_BACK,
    LONG_PIECE_SECONDS,
    NEAR,
    pause_after,
    piece_after,
)
from callgate.tools.debugger.history.repeating import Repeating
from callgate.tools.debugger.history.searching import Last, Search
from callgate.tools.debugger.target import Subject, target_of
from callgate.tools.debugger.target.target import Told
from callgate.tools.recording import Occurred

BUDGET: Final = 256 << 20
"""The memory that the checkpoints of a history take at most, in bytes, unless told otherwise."""


class History(Repeating):
    """Keeps the run of a system, or of a bare machine, from now on.

    Whatever shows the system to a user runs it by `run` alone.  What the guest prints, the boot log, and events for
    ordinary listeners come once: not again when a part of the run is repeated.
    """

    def __init__(self, subject: Subject, budget: int = BUDGET) -> None:
        """Begin; NotQuiescent if the system is in the middle of a request; ValueError for too small a budget."""
        super().__init__(target_of(subject))
        self.listeners: list[Callable[[Occurred], None]] = []  # told of each new one
        self.branched: list[Callable[[Moment], None]] = []  # told when the run goes on in another way from a moment
        self.typed: Callable[[], bytes] = bytes  # asked while it runs: what has been typed since, b"" if nothing has
        self.machine.runner.settle()
        self.checkpoints = Checkpoints(self.target, self.moment, budget)
        self.edge, self.told = self.moment, self.machine.position
        self.opening: Moment | None = None  # where it is to be shown from, if not from where it stands
        self.piece = FIRST_PIECE
        self.since = 0.0  # CPU seconds from the last checkpoint on
        self.cost = 0.0  # CPU seconds that the last one took
        self._take_over()

    # Where the system is.

    @property
    def system(self) -> System:
        """The system whose history this is; NoKernel for a bare machine."""
        return self.target.system

    @property
    def first(self) -> Moment:
        """The beginning."""
        return self.checkpoints.kept[0].moment

    @property
    def in_past(self) -> bool:
        """Whether what comes next has been once."""
        return self.moment < self.edge

    # What comes from outside, and what goes there.

    def _take_over(self) -> None:
        self.next = self.machine.outside
        self.machine.outside = self._from_outside
        self.target.tell_once(self._once)

    def _once(self, function: Callable[[Told], None]) -> Callable[[Told], None]:
        def call(argument: Told) -> None:
            if not self.mute:
                function(argument)

        return call

    def _from_outside(self, what: Outside) -> None:
        """Note what comes from outside; in the past it begins a run of its own."""
        if self.silent:
            return
        moment = self.moment
        if moment < self.edge:
            self._branch(moment)
        self.next(what)
        entry = Occurred(moment.position, what)
        self.occurred.append(entry)
        self.happened += 1
        self.edge = self.moment
        for listener in self.listeners:
            listener(entry)

    def _branch(self, moment: Moment) -> None:
        """Forget what came after a moment: from there the run goes on in another way."""
        forgotten = len(self.occurred) - moment.outside
        if forgotten:
            self.next(Forgotten(forgotten))
        del self.occurred[moment.outside :]
        self.checkpoints.forget_after(moment)
        self.edge, self.told, self.ending = moment, min(self.told, moment.position), None
        for told in self.branched:
            told(moment)

    def expect(
        self,
        occurred: Sequence[Occurred],
        end: Position,
        registers: Mapping[str, int] | None = None,
        *,
        open_at_end: bool = False,
    ) -> None:
        """Take a recording as what has been, up to its end: the run so far is its beginning.

        What its guest prints is new: it is told where the run is shown for the first time.  `registers` are those at
        the end: where the run comes there with others, RunDiffers is raised, once.  `open_at_end` says that it is to be
        shown from its end on (`Workbench.open`).  ValueError if something has come from outside already.
        """
        if self.occurred or end < self.machine.position:
            raise ValueError("a recording is taken at the beginning of its run")
        self.occurred = list(occurred)
        self.edge = Moment(end, len(self.occurred))
        self.ending = (self.edge, dict(registers)) if registers else None
        self.opening = self.edge if open_at_end else None

    def set_register(self, name: str, value: int) -> None:
        """Change a register of the CPU by hand, as `Machine.set_register`."""
        self.machine.set_register(name, value)

    def restart(self) -> None:
        """Go to the beginning, and have another run begin there: what has been is forgotten, and is told again."""
        self.go(self.first)
        self._branch(self.first)

    # Forward.

    def run(
        self,
        *,
        fuel: int | None = None,
        until: Callable[[], bool] | int | str | None = None,
        goal: Position | None = None,
    ) -> Stop:
        """Run on as `Machine.run` does; in the past, what came from outside comes again.

        A breakpoint at the instruction where the system stands does not end the run.
        """
        with self.interrupts.held():
            return self._run(fuel, until, goal)

    def _run(self, fuel: int | None, until: Callable[[], bool] | int | str | None, goal: Position | None) -> Stop:
        begin = self.moment
        end = None if fuel is None else begin.position.retired + fuel
        while True:
            self._take_typed()
            retired = self.machine.position.retired
            left = None if end is None else end - retired
            stop = self._piece(left, until, goal)
            if stop.reason == "halt" and self._take_typed():
                continue
            if stop.reason == PAUSE or (stop.reason == "breakpoint" and self.moment == begin):
                continue
            if stop.reason == "position" and (goal is None or self.machine.position < goal):
                continue
            if stop.reason == "fuel" and (end is None or stop.retired < end) and stop.retired > retired:
                continue
            return stop

    def _take_typed(self) -> bool:
        """Give the guest what has been typed while it runs, in the present; whether there was anything."""
        data = b"" if self.in_past else self.typed()
        if data:
            self.machine.serial.feed(data)
        return bool(data)

    def step(self) -> Stop:
        """Run to the next position: one instruction, or the delivery of an exception or interrupt."""
        here = self.machine.position
        return self.run(goal=here._replace(delivered=here.delivered + 1, clock=0))

    def _piece(self, left: int | None, until: Callable[[], bool] | int | str | None, goal: Position | None) -> Stop:
        """Run up to a checkpoint that is due, to the next thing from outside, or to what ends the run."""
        if self.in_past:
            with self.showing():
                return self.repeat(left, until, goal)
        ended = self.target.ended()
        if ended is not None:
            return ended
        fuel = self.piece if left is None else min(left, self.piece)
        before, retired = time.process_time(), self.machine.position.retired
        try:
            with self.pausing(pause_after(self.cost) - self.since):
                stop = self.machine.run(fuel=fuel, until=until, goal=goal)
        finally:
            self.machine.runner.settle()
            self.edge = max(self.edge, self.moment)
            self.told = max(self.told, self.machine.position)
        spent = time.process_time() - before
        self.piece = piece_after(stop.retired - retired, spent, self.piece, LONG_PIECE_SECONDS)
        self.since += spent
        if stop.reason in ("fuel", PAUSE) and self.since >= pause_after(self.cost):
            before = time.process_time()
            if self.keep_checkpoint(self.since):
                self.since, self.cost = 0.0, time.process_time() - before
        return stop

    def keep_checkpoint(self, spent: float = 0.0) -> bool:
        """Keep the present state as a checkpoint; False if it cannot be, or has been.

        `spent` is the CPU time that the run has taken since the one before, in seconds, as far as it is known.
        """
        moment, state = self.moment, self.machine.state
        served = state.site_done == state.count  # the events of the next instruction have come: they would be lost
        if served or self.checkpoints.versions.has(moment):
            return False
        with suppress(NotQuiescent):
            self.checkpoints.take(moment, spent)
            return True
        return False

    # To any moment.

    def go(self, moment: Moment) -> None:
        """Make the system stand at a moment that has been.

        ValueError if it has not; HistoryInterrupted after Ctrl-C.
        """
        if not self.first <= moment <= self.edge:
            raise ValueError(
                f"{moment.position} is not in the history: that is {self.first.position} to {self.edge.position}"
            )
        untold = moment.position > self.told  # what the guest has printed there has to be told, from its beginning on
        checkpoint = self.checkpoints.before(self.moment_at(self.told.retired) if untold else moment)
        with self.travelling(), self.showing():
            if not checkpoint.moment <= self.moment <= moment:
                self._restore(checkpoint)
            self._approach(moment)

    def forward_to(self, moment: Moment) -> None:
        """Run on to a moment that has been and is not before this one: every instruction on the way is executed.

        ValueError if it is; HistoryInterrupted after Ctrl-C.
        """
        with self.travelling():
            self.scan(moment, lambda: None)

    def scan(self, moment: Moment, passed: Callable[[], None]) -> None:
        """Do the same for a search within `staying`: HistoryInterrupted leaves the system wherever it is then.

        `passed` is called after each stretch of some milliseconds.
        """
        if not self.moment <= moment <= self.edge:
            raise ValueError(f"{moment.position} does not come after {self.moment.position}")
        piece = FIRST_PIECE_BACK
        with self.interrupts.held(), self._alone():
            while self.moment < moment:
                before, here = time.process_time(), self.machine.position.retired
                self._run_to(min(Moment(Position(here + piece), moment.outside), moment))
                piece = piece_after(self.machine.position.retired - here, time.process_time() - before, piece)
                passed()

    def _approach(self, moment: Moment) -> None:
        """Run on to a moment, and keep checkpoints on the last part of the way: often the next one wanted is near."""
        retired = moment.position.retired
        near = Moment(Position(retired - NEAR), moment.outside)
        self._run_to(min(Moment(Position(retired - FAR), moment.outside), moment))
        spent, piece = 0.0, FIRST_PIECE_BACK
        while self.moment < near:
            before, here = time.process_time(), self.machine.position.retired
            with self.pausing(CHECKPOINT_SECONDS - spent):
                self._run_to(min(Moment(Position(here + piece), moment.outside), near))
            took = time.process_time() - before
            spent += took
            piece = piece_after(self.machine.position.retired - here, took, piece)
            if spent >= CHECKPOINT_SECONDS and self.moment < near and self.keep_checkpoint(spent):
                spent = 0.0
        if self.machine.position.retired - self.checkpoints.before(self.moment).moment.position.retired >= CLOSE:
            self.keep_checkpoint(spent)
        self._run_to(moment)

    # Backward.

    def moment_at(self, retired: int) -> Moment:
        """Return the first moment at which this many instructions had retired."""
        position = Position(retired)
        return Moment(position, sum(came_by(entry, position) for entry in self.occurred))

    def previous(self) -> Moment | None:
        """Return the moment one position earlier; None at the beginning."""
        here, deliveries = self.machine.position, self.machine.traps.deliveries
        if here.delivered > 1:
            earlier = here._replace(delivered=here.delivered - 1)
        elif here.delivered == 1:
            earlier = Position(here.retired)
        elif deliveries.at == here.retired - 1:
            earlier = Position(here.retired - 1, deliveries.number, deliveries.clock)
        else:
            earlier = Position(here.retired - 1)
        if earlier < self.first.position:
            return None
        return Moment(earlier, self._outside_by(earlier))

    def _outside_by(self, position: Position) -> int:
        """Return how much had come from outside before a position was left... at most what has by now."""
        return sum(came_by(entry, position) for entry in self.occurred[: self.happened])

    def step_back(self) -> bool:
        """Go to the position before; False at the beginning, where nothing happens."""
        earlier = self.previous()
        if earlier is None:
            return False
        self.go(earlier)
        return True

    def back_to(
        self,
        wanted: Callable[[Stop], bool],
        end_now: Callable[[], bool] | None = None,
        latest: Callable[[Position], Last | None] = lambda _end: None,
    ) -> Stop | None:
        """Go back to the last stop that `wanted` accepts, before where the system is.

        If there is none the result is None, and the system stands at the beginning.

        Breakpoints and whatever else stops the machine are looked for by running through the past again.
        HistoryInterrupted after Ctrl-C, or when `end_now` says so, which is asked for each stretch: the system is then
        where it was.  `latest` returns what is known of the last stop before a position, which spares looking for it
        after that.
        """
        origin = end = self.moment
        found = None
        try:
            with self.interrupts.held():
                while found is None:
                    last = latest(end.position)
                    end = end if last is None else min(end, self.moment_at(last.before))
                    if end <= self.first:
                        break
                    if end_now is not None and end_now():
                        raise HistoryInterrupted
                    checkpoint = self._last_before(end)
                    self._restore(checkpoint)
                    found = Search(self, end, wanted, last).run()
                    end = checkpoint.moment
                goal = self.first if found is None else found.moment
                if self.moment != goal:
                    self.go(goal)
        except HistoryInterrupted:
            self.come_back(origin)
            raise
        return None if found is None else found.stop

    def _last_before(self, end: Moment) -> Checkpoint:
        """Return the last checkpoint before a moment."""
        kept = self.checkpoints.kept
        return next(checkpoint for checkpoint in reversed(kept) if checkpoint.moment < end)


def came_by(entry: Occurred, position: Position) -> bool:
    """Whether something from outside has come when a run stands at a position.

    What a test has set up for a call counts at once: the place before is none that its code is at.
    """
    if isinstance(entry.what, SetUp):
        return entry.position[:2] <= position[:2]
    return entry.position < position
