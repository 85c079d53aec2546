"""Which instructions, host calls and devices read or wrote memory, and when a value in it became what one asks for.

Memory is that behind an address where the system stands: an access by another linear address, in another address space
as well, counts.  What Python reads is seen as far as `reads_of_policy` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.observation.position import Position
from callgate.tools.debugger.debuggee.watchpoints import Access, Kind
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.queries.policy_reads import reads_of_policy
from callgate.tools.debugger.queries.scanning import Answer, Stretch, before_instruction

if TYPE_CHECKING:
    from callgate.tools.debugger.debuggee import Debuggee

Pieces = list[tuple[int, int, int]]  # (linear, physical, bytes)


@dataclass(frozen=True, slots=True)
class Touch:
    """An access: `moment` is before the instruction, or after the host call or transfer; `by` says what made it."""

    moment: Moment
    write: bool
    address: int
    size: int
    before: int  # the whole value, before and after
    after: int
    by: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that memory says: a value, and when it counts; `there` says whether the memory has this meaning yet."""

    name: str
    pieces: Pieces
    holds: Callable[[int], bool]
    there: Callable[[], bool] = lambda: True
    words: Callable[[int], str] = hex

    def begins(self, before: int, after: int) -> bool:
        """Whether it begins to hold by a write."""
        return self.holds(after) and not self.holds(before) and self.there()


@dataclass(slots=True)
class Accesses:
    """Watches memory of one system."""

    debuggee: Debuggee
    stretch: Stretch
    name: Callable[[int], str]  # an address with its symbol

    @contextmanager
    def watching(self, kind: Kind, pieces: Pieces, told: Callable[[Access], None]) -> Iterator[None]:
        """Call a function with each access for as long as the block lasts."""
        points = self.debuggee.watchpoints
        point = points.add_physical(kind, pieces, told)
        try:
            yield
        finally:
            points.remove(point)

    @contextmanager
    def reading(self, pieces: Pieces, told: Callable[[Touch], None]) -> Iterator[None]:
        """Call a function with each read of memory by policy or a hosted server."""
        ram, history = self.debuggee.machine.ram, self.stretch.history
        last: Touch | None = None

        def read(physical: int, length: int, by: str) -> None:
            nonlocal last
            for linear, base, size in pieces:
                low, high = max(base, physical), min(base + size, physical + length)
                if low < high:
                    data = b"".join(ram.read(place, count, Account.OBSERVER) for _, place, count in pieces)
                    value = int.from_bytes(data, "little")
                    touch = Touch(history.moment, False, linear + low - base, high - low, value, value, by)
                    if touch != last:  # policy looks several times where a CPU would keep a register
                        told(touch)
                    last = touch

        with reads_of_policy(self.debuggee.machine, read):
            yield

    def touch(self, access: Access) -> Touch:
        """Return an access that is under way."""
        history = self.stretch.history
        by, moment = access.by, history.moment
        if by == "cpu":
            moment = before_instruction(history)
            thread = self.debuggee.threads.running()
            ring = self.debuggee.machine.cpu.cpl
            by = f"{self.name(access.eip)}, thread {thread.number} {thread.name!r}, ring {ring}"
        before, after = (int.from_bytes(data, "little") for data in (access.before, access.after))
        return Touch(moment, access.write, access.address, access.size, before, after, by)


def touches(accesses: Accesses, kind: Kind, pieces: Pieces) -> Answer[Touch]:
    """Return every access of a kind to memory; ValueError for a stretch that is not in the history."""
    answer: Answer[Touch] = Answer()

    def told(access: Access) -> None:
        answer.add(accesses.touch(access))

    @contextmanager
    def watching() -> Iterator[None]:
        with ExitStack() as stack:
            if kind is not Kind.WRITE:
                stack.enter_context(accesses.reading(pieces, answer.add))
            stack.enter_context(accesses.watching(kind, pieces, told))
            yield

    accesses.stretch.scan(answer, watching)
    return answer


def becomes(accesses: Accesses, facts: Sequence[Fact]) -> Answer[tuple[Moment, str, str]]:
    """Return the moments at which facts begin to hold, each with the fact, its value, and by whom it came about.

    A moment is that after the write.  What holds at the beginning already is listed as that.
    """
    answer: Answer[tuple[Moment, str, str]] = Answer()
    history = accesses.stretch.history

    def following(fact: Fact) -> Callable[[Access], None]:
        def told(access: Access) -> None:
            touch = accesses.touch(access)
            if fact.begins(touch.before, touch.after):
                moment = history.moment if access.by != "cpu" else after_instruction(touch.moment)
                text = f"{fact.name}: {fact.words(touch.before)} becomes {fact.words(touch.after)}"
                answer.add((moment, text, touch.by))

        return told

    @contextmanager
    def watching() -> Iterator[None]:
        points = accesses.debuggee.watchpoints
        known = [points.add_physical(Kind.WRITE, fact.pieces, following(fact)) for fact in facts]
        for fact, point in zip(facts, known, strict=True):
            value = int.from_bytes(point.bytes, "little")
            if fact.there() and fact.holds(value):
                answer.add((history.moment, f"{fact.name}: {fact.words(value)}", "so at the beginning"))
        try:
            yield
        finally:
            for point in known:
                points.remove(point)

    accesses.stretch.scan(answer, watching)
    return answer


def after_instruction(before: Moment) -> Moment:
    """Return the moment after an instruction, from that before it."""
    return Moment(Position(before.position.retired + 1), before.outside)
