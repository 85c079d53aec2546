"""Changes that no instruction has made: those by hand, and those of a test's Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from callgate.kernel.machine.memory.outside import SetRegister, SetUp, Write
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.target.target import BY_TEST, BY_USER
from callgate.tools.debugger.why.locations import InMemory, InRegister, Location

if TYPE_CHECKING:
    from callgate.tools.debugger.history import History

BY_FUNCTION: Final = "the test's function for {}"


class ByHand(NamedTuple):
    """A change: the moment after it, and what has made it, in words.

    `instruction` is the number of the last instruction before it, or of the one in the middle of which it was made.
    """

    instruction: int
    moment: Moment
    by: str


def last_by_hand(history: History, location: Location, end: Moment) -> ByHand | None:
    """Return the last change of a location before a moment; None if there was none since the history began."""
    last: ByHand | None = None
    for change in changes(history, location, end):
        if last is None or change.instruction >= last.instruction:
            last = change
    return last


def changes(history: History, location: Location, end: Moment) -> Iterator[ByHand]:
    """Yield the changes of a location before a moment at which the history stands, those of functions first."""
    state = history.machine.state
    served = state.site_done == state.count  # a run was stopped after what comes before the next instruction
    for answer in history.target.answers():
        if answer.count <= end.position.retired + served and _changes(answer.changes, location):
            by = BY_FUNCTION.format(answer.name)
            yield ByHand(answer.count, min(history.moment_at(answer.count), end), by)
    for index, entry in enumerate(history.occurred[: end.outside]):
        if _changes(entry.what, location):
            by = BY_TEST if isinstance(entry.what, SetUp) else BY_USER
            yield ByHand(entry.position.retired, Moment(entry.position, index + 1), by)


def _changes(what: object, location: Location) -> bool:
    match what:
        case SetRegister(name, _):
            return location == InRegister(name)
        case Write(physical, data):
            return _touches(location, physical, len(data))
        case SetUp():
            if isinstance(location, InRegister):
                return location.name in dict(what.registers)
            return any(_touches(location, physical, len(data)) for physical, data in what.memory)
    return False


def _touches(location: Location, physical: int, length: int) -> bool:
    """Whether a range of physical memory has a byte of a location."""
    if not isinstance(location, InMemory):
        return False
    return physical < location.physical + location.size and location.physical < physical + length
