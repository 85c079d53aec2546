"""The event stream: what happened, in order.

One append-only stream of typed events.  Code that shows events (ledger, debugger, trace files, tests) subscribes; with
no subscriber of a kind, emitting one costs one test of a set.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from callgate.kernel.common.near_miss import those_like


class Event(NamedTuple):
    """Something that happened: virtual time in ns, kind ("ipc.reply"), fields in order."""

    clock: int
    kind: str
    fields: dict[str, object]

    def line(self) -> str:
        """Return the event as one line of a trace: clock, kind, fields; integers in hex."""
        return f"{self.clock:>12} {self}"

    def __str__(self) -> str:
        values = " ".join(f"{key}={format_value(value)}" for key, value in self.fields.items())
        return f"{self.kind} {values}".rstrip()

    def __repr__(self) -> str:
        return f"<event at {self.clock} ns: {self}>"


def format_value(value: object) -> str:
    """Return a field as a trace shows it."""
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


Listener = Callable[[Event], None]


class EventStream:
    """Subscriptions by kind; `None` means every kind."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.listeners: list[tuple[Listener, frozenset[str] | None]] = []
        self.again: list[Listener] = []  # those that want to be told of a repeated run, too
        self.repeating = False  # what happens now has been told before
        self.active = False
        self.changed: list[Callable[[], None]] = []
        self.kinds: set[str] = set()
        self.more_kinds: list[Callable[[], Iterable[str]]] = []  # called for kinds that are not declared

    def wants(self, kind: str) -> bool:
        """Whether there is a listener for events of this kind."""
        return self.active and any(kinds is None or kind in kinds for _, kinds in self.listeners)

    def declare(self, *kinds: str) -> None:
        """Declare kinds that `emit` is called with, so that a misspelt name is an error."""
        self.kinds.update(kinds)

    def subscribe(self, listener: Listener, kinds: Iterable[str] | None = None, *, again: bool = False) -> Listener:
        """Call `listener` with every event of these kinds from now on; return it, for `unsubscribe`.

        A debugger that goes back repeats a part of the run: `again` says to be told of its events once more.
        KeyError for a kind that is neither declared nor the name of an event site.
        """
        kinds = None if kinds is None else frozenset(kinds)
        if kinds is not None and not kinds <= self.kinds:
            known = self.kinds.union(*(ask() for ask in self.more_kinds))
            for kind in sorted(kinds - known):
                raise KeyError(f"no event {kind!r}; there is {those_like(kind, known)}")
        self.listeners.append((listener, kinds))
        if again:
            self.again.append(listener)
        self._update()
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        """Remove every subscription of `listener`."""
        self.listeners = [entry for entry in self.listeners if entry[0] is not listener]
        self.again = [other for other in self.again if other is not listener]
        self._update()

    def emit(self, kind: str, **fields: object) -> None:
        """Append an event."""
        if not self.active:
            return
        event = Event(self.clock(), kind, fields)
        for listener, kinds in list(self.listeners):
            if (kinds is None or kind in kinds) and (not self.repeating or listener in self.again):
                listener(event)

    def __repr__(self) -> str:
        wanted = [
            "one for all kinds" if kinds is None else f"one for {' '.join(sorted(kinds))}"
            for _, kinds in self.listeners
        ]
        return f"<event stream, heard by {'; '.join(wanted) or 'no observer'}>"

    def _update(self) -> None:
        self.active = bool(self.listeners)
        for notify in self.changed:
            notify()
