"""What ends a run at the debugger's prompt: places, events, and accesses to memory, each with a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.machine import Stop
from callgate.kernel.machine.observation.stream import Event, Listener
from callgate.tools.debugger.debuggee import Debuggee, breakpoints, watchpoints
from callgate.tools.debugger.debuggee.memory import LINEAR_END
from callgate.tools.debugger.debuggee.watchpoints import Access, Kind, Watchpoint
from callgate.tools.debugger.workbench.at_endpoints import AtEndpoints
from callgate.tools.debugger.workbench.code import Code
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.facts import Waiting, waiting_for
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.foreseen import written
from callgate.tools.debugger.workbench.names import Meanings
from callgate.tools.debugger.workbench.passing import Passing
from callgate.tools.inspection.wording import counted

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine.observation.position import Position

EVENT: Final = "debugger event"  # reason of the machine's stop; its detail is the Event
REACHED: Final = "debugger reached"
WIDEST: Final = 1 << 20  # bytes of a watchpoint
ENDS: Final = (breakpoints.HIT, watchpoints.HIT, EVENT, REACHED)


@dataclass(eq=False, slots=True)
class Stopping:
    """One numbered stop: what it waits for, in words, and how it is put into the system and taken out."""

    number: int
    text: str
    put: Callable[[], object]  # returns what the machine reports when it ends a run
    take: Callable[[Any], None]  # takes that out
    once: bool = False
    hits: int = 0
    enabled: bool = True
    what: object = None  # None: it is not in the system now
    kinds: tuple[str, ...] | None = None  # of the events that it waits for; None: it waits for something else
    condition: Expression | None = None
    again: Callable[[Expression | None], Stopping] | None = None  # adds the same stop with another condition
    passing: Passing = field(default_factory=Passing)  # the hits that end no run
    commands: tuple[str, ...] = ()  # lines that are carried out after it has ended a run

    def reports(self, detail: object) -> bool:
        """Whether it is what the machine reports."""
        if isinstance(self.what, AtEndpoints):
            return self.what.reports(detail)
        return detail is not None and detail is self.what


@dataclass(frozen=True, slots=True)
class Watched:
    """Memory that is watched: bytes from a linear address on, in the words of the user."""

    kind: Kind
    address: int
    length: int
    place: str
    process: Process

    def __str__(self) -> str:
        return f"{self.kind} of {counted(self.length, 'byte')} at {self.address:#010x} ({self.place})"


def worded(expression: Expression | None) -> str:
    """Return a condition as it stands after what it is a condition of."""
    return "" if expression is None else f" if {expression.text}"


class Stops:
    """The stops of one session, by number."""

    def __init__(self, debuggee: Debuggee, code: Code, meanings: Meanings) -> None:
        self.debuggee = debuggee
        self.machine = debuggee.machine
        self.code = code
        self.meanings = meanings
        self.known: dict[int, Stopping] = {}
        self.number = 0
        self.forward = False  # the run goes on, as the user has asked for: hits count
        self.origin: Position | None = None  # where that began

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Let hits count for `ignore` as long as the block lasts: the run goes on, as the user has asked for."""
        before = self.forward, self.origin
        self.forward, self.origin = True, self.machine.position
        try:
            yield
        finally:
            self.forward, self.origin = before

    def ignore(self, number: int, count: int) -> Stopping:
        """Have the next hits of a stop end no run; CommandError if there is none of this number."""
        stopping = self.numbered(number)
        stopping.passing.begin(count)
        return stopping

    def forget_after(self, position: Position) -> None:
        """The run goes another way from a position on: no hit after it has been passed."""
        for stopping in self.known.values():
            stopping.passing.forget_after(position)

    def _ends(self, passing: Passing, expression: Expression | None, event: Event | None = None) -> bool:
        """Whether a hit ends the run: the condition holds, and the hit is not to be passed.

        What comes before the instruction at which the run goes on has ended the run before, and does not count.
        """
        if not self._holds(expression, None if event is None else event.fields):
            return False
        here = self.machine.position
        again = event is not None and here == self.origin and event.kind in self.machine.event_sites.kinds
        return not passing.passes(here, counts=self.forward and not again)

    def _add(self, text: str, put: Callable[[], object], take: Callable[[Any], None], *, once: bool) -> Stopping:
        stopping = Stopping(self.number + 1, text, put, take, once)
        try:
            stopping.what = put()
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.number += 1
        self.known[self.number] = stopping
        return stopping

    def _out(self, stopping: Stopping) -> None:
        what, stopping.what = stopping.what, None
        if what is not None:
            stopping.take(what)

    def _in(self, stopping: Stopping) -> None:
        if stopping.what is None and stopping.enabled:
            stopping.what = stopping.put()

    def enable(self, number: int, *, on: bool) -> None:
        """Let a stop end runs, or not; CommandError if there is none of this number."""
        stopping = self.numbered(number)
        stopping.enabled = on
        if on:
            self._in(stopping)
        else:
            self._out(stopping)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Take all of them out of the system for as long as the block lasts."""
        for stopping in self.known.values():
            self._out(stopping)
        try:
            yield
        finally:
            for stopping in self.known.values():
                self._in(stopping)

    def numbered(self, number: int) -> Stopping:
        """Return the stop of a number; CommandError."""
        if number not in self.known:
            raise CommandError(f"no stop {number}; there is {', '.join(map(str, self.known)) or 'none'}")
        return self.known[number]

    def kinds(self, name: str) -> list[str]:
        """Return the kinds of events that a name means: `ipc.reply`, `reply`, `ipc`; none if it is no event's."""
        known = self.machine.stream.kinds | self.machine.event_sites.kinds
        if name in known:
            return [name]
        return sorted(kind for kind in known if kind.endswith(f".{name}") or kind.startswith(f"{name}."))

    def add(self, place: str, condition: str | None = None, *, once: bool = False) -> Stopping:
        """Stop at a place in code, or at an event; CommandError."""
        expression = None if condition is None else Expression(condition)
        waiting = waiting_for(self.debuggee, place.split())
        if waiting is not None:
            return self._add_changes(waiting, expression, once=once)
        kinds = self.kinds(place)
        if not kinds or (place in self.machine.addresses and not self._marks(place, kinds)):
            self._check(expression)
            return self._add_place(place, expression, once=once)
        return self._add_events(kinds, expression, once=once)

    def _check(self, expression: Expression | None, *, event: bool = False) -> None:
        if expression is not None:
            self.meanings.check(expression, event=event)

    def _add_events(self, kinds: list[str], expression: Expression | None, *, once: bool) -> Stopping:
        self._check(expression, event=True)
        text = f"event {' '.join(kinds)}" + worded(expression)
        stream = self.machine.stream
        passing = Passing()
        stopping = self._add(
            text,
            lambda: stream.subscribe(self.listener(expression, passing), kinds, again=True),
            stream.unsubscribe,
            once=once,
        )
        stopping.passing = passing
        stopping.kinds, stopping.condition = tuple(kinds), expression
        stopping.again = lambda other: self._add_events(kinds, other, once=once)
        return stopping

    def set_condition(self, number: int, condition: str) -> Stopping:
        """Give a stop another condition, "" for none; it keeps its number and its hits.  CommandError."""
        old = self.numbered(number)
        assert old.again is not None
        new = old.again(Expression(condition) if condition else None)
        del self.known[new.number]
        self.number -= 1
        self._out(old)
        new.number, new.hits, new.enabled, new.commands = number, old.hits, old.enabled, old.commands
        new.passing.take_over(old.passing)
        self.known[number] = new
        if not new.enabled:
            self._out(new)
        return new

    def _marks(self, label: str, kinds: list[str]) -> bool:
        """Whether a label stands where one of these events comes: the event is the same place, and has fields."""
        address = self.machine.addresses[label]
        return any(site.address == address and site.kind in kinds for site in self.machine.event_sites.known)

    def listener(self, expression: Expression | None, passing: Passing) -> Listener:
        """Return a listener that ends the run at each event for which a condition holds, if it is not to be passed."""

        def listen(event: Event) -> None:
            if self._ends(passing, expression, event):
                self.machine.request_stop(EVENT, (listen, event))

        return listen

    def _holds(self, expression: Expression | None, fields: Mapping[str, object] | None = None) -> bool:
        """Whether a condition holds, or cannot be tested: that ends a run, too, as in gdb, and is said."""
        if expression is None:
            return True
        try:
            return self.meanings.holds(expression, fields)
        except CommandError:
            return True

    def _add_place(self, place: str, expression: Expression | None, *, once: bool) -> Stopping:
        events = self.machine.stream.kinds | self.machine.event_sites.kinds
        return self._add_at(*self.code.address_of(place, events), expression, once=once)

    def add_address(self, address: int, process: Process, condition: str | None = None) -> Stopping:
        """Stop at an address of a process; CommandError."""
        expression = None if condition is None else Expression(condition)
        return self._add_at(address, process if process.number else None, expression, once=False)

    def _add_at(self, address: int, process: Process | None, expression: Expression | None, *, once: bool) -> Stopping:
        if not 0 <= address < LINEAR_END:
            raise CommandError(f"{address:#x} is no address of 32 bits")
        self._check(expression)
        passing = Passing()
        points = self.debuggee.breakpoints

        def ends() -> bool:
            return self._ends(passing, expression)

        text = f"{self.code.name(address, process)}" + (f" of {process.name}" if process else "")
        text += worded(expression)
        stopping = self._add(text, lambda: points.add(address, process, [ends]), points.remove, once=once)
        stopping.condition, stopping.passing = expression, passing
        stopping.again = lambda other: self._add_at(address, process, other, once=once)
        return stopping

    def _add_changes(self, waiting: Waiting, expression: Expression | None, *, once: bool) -> Stopping:
        """Stop when memory of endpoints changes in one of several ways."""
        self._check(expression)
        passing = Passing()
        points = AtEndpoints(self.debuggee, waiting, lambda: self._ends(passing, expression))
        stopping = self._add(waiting.text + worded(expression), points.put, points.take, once=once)
        stopping.condition, stopping.passing = expression, passing
        stopping.again = lambda other: self._add_changes(waiting, other, once=once)
        return stopping

    def watch(self, kind: Kind, place: str, length: int | None = None, condition: str | None = None) -> Stopping:
        """Stop after accesses to memory; the condition is tested with what has been written.  CommandError."""
        address, size = self.meanings.place(Expression(place))
        if not 0 <= address < LINEAR_END:
            raise CommandError(f"{address:#x} is no address of 32 bits")
        if (length or size) > WIDEST:
            raise CommandError(f"{length or size:,} bytes: a watchpoint has at most {WIDEST:,}")
        watched = Watched(kind, address, length or size, place, self.debuggee.threads.running().process)
        return self._watch(watched, None if condition is None else Expression(condition))

    def _watch(self, watched: Watched, expression: Expression | None) -> Stopping:
        self._check(expression)
        points, passing = self.debuggee.watchpoints, Passing()

        def put() -> Watchpoint:
            point = points.add(watched.kind, watched.address, watched.length, watched.process)
            point.condition = ends
            return point

        def ends(access: Access) -> bool:
            with written(self.machine, access):
                return self._ends(passing, expression)

        stopping = self._add(f"{watched}{worded(expression)}", put, points.remove, once=False)
        stopping.condition, stopping.passing = expression, passing
        stopping.again = lambda other: self._watch(watched, other)
        return stopping

    def kinds_wanted(self) -> frozenset[str] | None:
        """Return the kinds of events that can end a run; None if something else can, too."""
        wanted: set[str] = set()
        for stopping in self.known.values():
            if stopping.enabled:
                if stopping.kinds is None:
                    return None
                wanted.update(stopping.kinds)
        return frozenset(wanted)

    def may_end(self, event: Event) -> bool:
        """Whether an event may have ended a run, as far as its fields say it."""
        for stopping in self.known.values():
            if stopping.enabled and event.kind in (stopping.kinds or ()):
                if stopping.condition is None or self.meanings.may_hold(stopping.condition, event.fields):
                    return True
        return False

    def remove(self, number: int) -> None:
        """Remove a stop; CommandError if there is none of this number."""
        self._out(self.numbered(number))
        del self.known[number]

    def at(self, address: int) -> list[int]:
        """Return the numbers of the breakpoints at an address that count for the running thread's process."""
        process = self.debuggee.threads.running().process.number
        points = self.debuggee.breakpoints.known
        here = [point for point in points if point.address == address and point.process in (None, process)]
        return [number for number, stopping in self.known.items() if any(map(stopping.reports, here))]

    def clear(self) -> None:
        """Remove all of them."""
        for number in list(self.known):
            self.remove(number)

    def found(self, stop: Stop) -> Stopping | None:
        """Return the stop that has ended a run, count it, and remove it if it was for once; None if it was none."""
        stopping = self.of_stop(stop)
        if stopping is not None:
            stopping.hits += 1
            if stopping.once:
                self.remove(stopping.number)
        return stopping

    def untested(self, stopping: Stopping, stop: Stop) -> str:
        """Return why the condition of a stop that has ended a run cannot be tested where that stands; "" if it can."""
        if stopping.condition is None:
            return ""
        try:
            self.meanings.holds(stopping.condition, stop.detail[1].fields if stop.reason == EVENT else None)
        except CommandError as error:
            return str(error)
        return ""

    def of_stop(self, stop: Stop) -> Stopping | None:
        """Return the stop that has ended a run; None if it was none."""
        detail = stop.detail
        if stop.reason == EVENT:
            detail = detail[0]
        elif stop.reason == watchpoints.HIT:
            detail = detail.watchpoint
        return next((stopping for stopping in self.known.values() if stopping.reports(detail)), None)
