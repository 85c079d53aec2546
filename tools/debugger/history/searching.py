"""Searching the past: the last stop in a stretch of a run, found by running through it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.observation.position import Position
from callgate.tools.debugger.history.checkpoints import Moment
from callgate.tools.debugger.history.interrupts import HistoryInterrupted
from callgate.tools.debugger.history.pacing import CLOSE, FIRST_PIECE_BACK, NEAR, SEARCH_SECONDS, piece_after


class Found(NamedTuple):
    """A stop, and the moment at which it came."""

    moment: Moment
    stop: Stop


class Last(NamedTuple):
    """What is known of the last stop in a stretch: it has come before `before` instructions had retired.

    `only` says that none but the one which came after `before - 1` can come there.
    """

    before: int
    only: bool = False

    def is_at(self, retired: int) -> bool:
        """Whether a stop where a number of instructions have retired is known to be the last one."""
        return self.only and retired == self.before - 1


class Repeatable(Protocol):
    """What is needed of a history."""

    machine: Machine

    @property
    def moment(self) -> Moment:
        """Where the system is."""
        ...

    def repeat(self, left: int | None, until: None, goal: Position | None) -> Stop:
        """Run in the past."""
        ...

    def keep_checkpoint(self, spent: float = 0.0) -> bool:
        """Keep the present state, to which the run has taken `spent` seconds of CPU time; False if it cannot be."""
        ...

    def pausing(self, seconds: float) -> AbstractContextManager[None]:
        """Let runs within the block end where a state can be kept, once they have taken this much CPU time."""
        ...


class Search:
    """Looks for the last stop in a stretch of the past that `wanted` accepts, by running through it.

    It keeps checkpoints on the way, unless the last stop is known to be reached at once: the stop that is found is gone
    back to.  On a long way it keeps one shortly before the end, too: what is wanted next is often near.
    """

    def __init__(self, history: Repeatable, end: Moment, wanted: Callable[[Stop], bool], last: Last | None) -> None:
        self.history = history
        self.end = end
        self.wanted = wanted
        self.last = last
        self.found: Found | None = None
        self.ended = False  # what comes next needs no looking at
        self.again: Stop | None = None
        self.piece = FIRST_PIECE_BACK
        self.since = 0.0  # CPU seconds from the last checkpoint on

    def run(self) -> Found | None:
        """Run from where the system is up to the end; None if there is no stop, HistoryInterrupted after Ctrl-C.

        The system is then wherever it is; where the stop was found if that is known to be the last one.
        """
        machine, end = self.history.machine, self.end
        asked, machine.on_interrupt = machine.on_interrupt, None
        near = Position(end.position.retired - NEAR)
        try:
            if near.retired - machine.position.retired >= CLOSE - NEAR:
                self._pass(Moment(near, end.outside))
                if not self.ended and self.history.keep_checkpoint(self.since):
                    self.since = 0.0
            self._pass(end)
        except HistoryInterrupted:
            raise
        except Exception:
            if machine.position < end.position:
                raise  # otherwise the run ended by this error, as it did the first time
        finally:
            machine.on_interrupt = asked
        return self.found

    def _pass(self, end: Moment) -> None:
        """Run up to a moment."""
        while self.history.moment < end and not self.ended:
            self._through(end.position)
            due = self.since >= SEARCH_SECONDS and (self.last is None or not self.last.only)
            if due and not self.ended and self.history.keep_checkpoint(self.since):
                self.since = 0.0

    def _through(self, goal: Position) -> None:
        """Run through a piece of the way to a position, or up to a stop."""
        machine, history = self.history.machine, self.history
        before, begin = history.moment, time.process_time()
        with history.pausing(SEARCH_SECONDS - self.since):
            stop = history.repeat(None, None, min(goal, Position(before.position.retired + self.piece)))
        if stop.reason == "interrupted":
            raise HistoryInterrupted
        spent, ran = time.process_time() - begin, machine.position.retired - before.position.retired
        self.since += spent
        if ran >= self.piece:
            self.piece = piece_after(ran, spent, self.piece)
        if self.wanted(stop) and history.moment < self.end:
            self.found = Found(history.moment, stop)
            self.ended = self.last is not None and self.last.is_at(machine.position.retired)
        self.ended = self.ended or (history.moment == before and stop == self.again)
        self.again = stop
