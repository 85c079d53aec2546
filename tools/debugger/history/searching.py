"""Searching the past: the last stop in a stretch of a run, found by running through it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.observation.position import Position
from callgate.tools.debugger.history.checkpoints import Moment
from callgate.tools.debugger.history.interrupts import HistoryInterrupted


class Found(NamedTuple):
    """A stop, and the moment at which it came."""

    moment: Moment
    stop: Stop


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


def last_stop(history: Repeatable, end: Moment, wanted: Callable[[Stop], bool]) -> Found | None:
    """Return the last stop from where the system is to a moment that `wanted` accepts; None if there is none.

    HistoryInterrupted after Ctrl-C, wherever the system is then.
    """
    machine = history.machine
    found: Found | None = None
    again: Stop | None = None
    asked, machine.on_interrupt = machine.on_interrupt, None
    try:
        while history.moment < end:
            before = history.moment
            stop = history.repeat(None, None, end.position)
            if stop.reason == "interrupted":
                raise HistoryInterrupted
            if wanted(stop) and history.moment < end:
                found = Found(history.moment, stop)
            if history.moment == before and stop == again:
                break
            again = stop
    except HistoryInterrupted:
        raise
    except Exception:
        if machine.position < end.position:
            raise  # otherwise the run ended by this error, as it did the first time
    finally:
        machine.on_interrupt = asked
    return found
