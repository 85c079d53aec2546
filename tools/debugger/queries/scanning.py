"""Running through a stretch of the past with something that watches, and coming back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from callgate.kernel.machine.observation.position import Position
from callgate.tools.debugger.history import History, HistoryInterrupted, Moment

Row = TypeVar("Row")
MOST: Final = 100_000
"""Rows of an answer; a scan ends when it has found that many."""


class Enough(Exception):
    """There are as many rows as an answer may have."""


@dataclass(slots=True)
class Answer(Generic[Row]):
    """What has been found, in the order of the run; `cut` is where the scan ended before its end, and `reason` why."""

    rows: list[Row] = field(default_factory=list)
    cut: Position | None = None
    reason: str = ""

    def add(self, row: Row) -> None:
        """Add what has been found."""
        self.rows.append(row)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a history, from one moment to another, and who is told how much of it has been looked through."""

    history: History
    begin: Moment
    end: Moment
    progress: Callable[[float], None] = lambda _share: None  # from 0 to 1, every few milliseconds

    def scan(self, answer: Answer[Row], watching: Callable[[], AbstractContextManager[object]]) -> None:
        """Run through it with `watching`, which adds to an answer.  The system stands where it stood afterwards.

        ValueError for moments that are not in the history, in this order.
        """
        history = self.history
        if not history.first <= self.begin <= self.end <= history.edge:
            first, edge = history.first.position, history.edge.position
            raise ValueError(
                f"from {self.begin.position} to {self.end.position} is no stretch of the history: "
                f"that is {first} to {edge}"
            )
        with history.interrupts.held(), history.staying():
            try:
                history.go(self.begin)
                with watching():
                    history.scan(self.end, lambda: self._passed(answer))
            except HistoryInterrupted:
                answer.cut, answer.reason = history.machine.position, "interrupted"
            except Enough:
                answer.cut, answer.reason = history.machine.position, f"there are {MOST:,} and more"

    def _passed(self, answer: Answer[Row]) -> None:
        begin, end = self.begin.position.retired, self.end.position.retired
        here = self.history.machine.position.retired
        self.progress(min(1.0, (here - begin) / max(1, end - begin)))
        if len(answer.rows) >= MOST:
            raise Enough


def before_instruction(history: History) -> Moment:
    """Return the moment before the instruction that is being executed: asked within it, when it has been counted."""
    retired = int(history.machine.state.count) - 1
    deliveries = history.machine.traps.deliveries
    if deliveries.at == retired:
        position = Position(retired, deliveries.number, deliveries.clock)
    else:
        position = Position(retired)
    return Moment(position, history.happened)
