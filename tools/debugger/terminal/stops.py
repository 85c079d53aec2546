"""What ends a run at the debugger's prompt: places, events, and accesses to memory, each with a condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from callgate.kernel.machine import Stop
from callgate.kernel.machine.observation.stream import Event, Listener
from callgate.tools.debugger.debuggee import Debuggee, breakpoints, watchpoints
from callgate.tools.debugger.debuggee.breakpoints import Breakpoint
from callgate.tools.debugger.debuggee.watchpoints import Kind, Watchpoint
from callgate.tools.debugger.terminal.code import Code
from callgate.tools.debugger.terminal.expressions import Expression
from callgate.tools.debugger.terminal.failure import CommandError
from callgate.tools.debugger.terminal.names import Meanings

EVENT: Final = "debugger event"  # reason of the machine's stop; its detail is the Event
REACHED: Final = "debugger reached"
ENDS: Final = (breakpoints.HIT, watchpoints.HIT, EVENT, REACHED)


@dataclass(eq=False, slots=True)
class Stopping:
    """One numbered stop: what it waits for, in words, and how it is removed."""

    number: int
    text: str
    remove: Callable[[], None]
    once: bool = False
    hits: int = 0


class Stops:
    """The stops of one session, by number."""

    def __init__(self, debuggee: Debuggee, code: Code, meanings: Meanings) -> None:
        self.debuggee = debuggee
        self.machine = debuggee.machine
        self.code = code
        self.meanings = meanings
        self.known: dict[int, Stopping] = {}
        self.number = 0
        self.of: dict[int, Stopping] = {}  # by the identity of what the machine reports

    def _add(self, text: str, remove: Callable[[], None], what: object, *, once: bool) -> Stopping:
        self.number += 1
        stopping = self.known[self.number] = Stopping(self.number, text, remove, once)
        self.of[id(what)] = stopping
        return stopping

    def kinds(self, name: str) -> list[str]:
        """Return the kinds of events that a name means: `ipc.reply`, `reply`, `ipc`; none if it is no event's."""
        known = self.machine.stream.kinds | self.machine.event_sites.kinds
        if name in known:
            return [name]
        return sorted(kind for kind in known if kind.endswith(f".{name}") or kind.startswith(f"{name}."))

    def add(self, place: str, condition: str | None = None, *, once: bool = False) -> Stopping:
        """Stop at a place in code, or at an event; CommandError."""
        expression = None if condition is None else Expression(condition)
        kinds = self.kinds(place)
        if place in self.machine.addresses or not kinds:
            if expression is not None:
                self.meanings.check(expression, event=False)
            return self._add_place(place, expression, once=once)
        if expression is not None:
            self.meanings.check(expression, event=True)
        listener = self.listener(expression)
        self.machine.stream.subscribe(listener, kinds, again=True)
        text = f"event {' '.join(kinds)}" + (f" if {condition}" if condition else "")
        return self._add(text, lambda: self.machine.stream.unsubscribe(listener), listener, once=once)

    def listener(self, expression: Expression | None) -> Listener:
        """Return a listener that ends the run at each event for which a condition holds."""

        def listen(event: Event) -> None:
            if expression is None or self.meanings.holds(expression, event.fields):
                self.machine.request_stop(EVENT, (listen, event))

        return listen

    def _add_place(self, place: str, expression: Expression | None, *, once: bool) -> Stopping:
        address, process = self.code.address_of(place)
        conditions = [] if expression is None else [lambda: self.meanings.holds(expression)]
        try:
            point: Breakpoint = self.debuggee.breakpoints.add(address, process, conditions)
        except ValueError as error:
            raise CommandError(str(error)) from None
        text = f"{self.code.name(address, process)}" + (f" of {process.name}" if process else "")
        text += f" if {expression.text}" if expression is not None else ""
        return self._add(text, lambda: self.debuggee.breakpoints.remove(point), point, once=once)

    def watch(self, kind: Kind, place: str, length: int | None = None) -> Stopping:
        """Stop after accesses to memory; CommandError."""
        address, size = self.meanings.place(Expression(place))
        process = self.debuggee.threads.running().process
        try:
            point: Watchpoint = self.debuggee.watchpoints.add(kind, address, length or size, process)
        except ValueError as error:
            raise CommandError(str(error)) from None
        text = f"{kind} of {length or size} bytes at {address:#010x} ({place})"
        return self._add(text, lambda: self.debuggee.watchpoints.remove(point), point, once=False)

    def remove(self, number: int) -> None:
        """Remove a stop; CommandError if there is none of this number."""
        if number not in self.known:
            raise CommandError(f"no stop {number}; there is {', '.join(map(str, self.known)) or 'none'}")
        stopping = self.known.pop(number)
        stopping.remove()
        self.of = {key: other for key, other in self.of.items() if other is not stopping}

    def clear(self) -> None:
        """Remove all of them."""
        for number in list(self.known):
            self.remove(number)

    def found(self, stop: Stop) -> Stopping | None:
        """Return the stop that has ended a run, count it, and remove it if it was for once; None if it was none."""
        detail = stop.detail
        if stop.reason == EVENT:
            detail = detail[0]
        elif stop.reason == watchpoints.HIT:
            detail = detail.watchpoint
        stopping = self.of.get(id(detail))
        if stopping is not None:
            stopping.hits += 1
            if stopping.once:
                self.remove(stopping.number)
        return stopping
