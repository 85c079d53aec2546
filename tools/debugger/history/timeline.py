"""The events of a run in order, each with the place in the run to go to, and the way of each request through them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.memory import PAGE_SIZE, USER_MESSAGES
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT, SLOTS
from callgate.tools.debugger.history.searching import Last

if TYPE_CHECKING:
    from callgate.kernel.machine.observation.position import Position
    from callgate.kernel.machine.observation.stream import Event
    from callgate.tools.debugger.history import History, Moment

AREAS: Final = ("ipc", "disk", "file", "gate", "exception", "shell")
LEFT_OUT: Final = ("gate.host",)  # there are more of them than of all others
MOST: Final = 50_000  # events that are kept
DROPPED: Final = 10_000  # at once, the oldest
STRETCH: Final = 1 << 20  # instructions: of events that are no longer kept it is known in which stretches they came
ROAD: Final = (
    *("take", "fill", "post", "fetch", "map", "load", "call"),
    *("save", "reply", "unmap", "convert", "wake", "reload", "release"),
)
"""The way of a request that a client waits for.  One that policy has posted has `replied` for `wake` and `reload`."""
SIDEWAYS: Final = ("replied", "abandon", "bad_reply")
BEGINS: Final = ("ipc.take", "ipc.fill")
BY_MESSAGE: Final = ("ipc.load", "ipc.save")  # they name the message page, in ring 3

Slot = tuple[int, int]  # number of the endpoint, index


@dataclass(frozen=True, slots=True)
class Entry:
    """An event: before the instruction after `retired` others.  `slot` is that of the request, None without one."""

    retired: int
    event: Event
    slot: Slot | None

    @property
    def area(self) -> str:
        """The first word of its kind."""
        return self.event.kind.partition(".")[0]

    @property
    def name(self) -> str:
        """The last word of its kind."""
        return self.event.kind.rpartition(".")[2]

    @property
    def thread(self) -> int | None:
        """The thread in which it happened, None for a device."""
        number = self.event.fields.get("thread")
        return number if isinstance(number, int) else None


@dataclass(frozen=True, slots=True)
class Way:
    """The way of a request up to a place in the run: the events that it has passed, the last one at `here`."""

    slot: Slot
    passed: tuple[Entry, ...]
    here: bool  # the run stands at the last of them, and not after it

    @property
    def road(self) -> tuple[str, ...]:
        """The names of all phases in order: those passed, and those that are to come if nothing unusual happens."""
        names = [entry.name for entry in self.passed]
        last = max((ROAD.index(name) for name in names if name in ROAD), default=-1)
        if "replied" in names or "abandon" in names:
            last = max(last, ROAD.index("reload"))
        first = [] if names[:1] == ["take"] else ["take"]
        return (*first, *names, *ROAD[last + 1 :])

    @property
    def current(self) -> str:
        """The phase that was come to last."""
        return self.passed[-1].name

    @property
    def begun(self) -> int:
        """Where it was begun, in retired instructions."""
        return self.passed[0].retired

    @property
    def operation(self) -> str:
        """The operation's name, "" before it stands in the message."""
        for entry in self.passed:
            value = entry.event.fields.get("operation")
            if isinstance(value, int):
                return Operation(value).name if value in list(Operation) else f"operation {value:#x}"
        return ""

    def thread_of(self, phase: str) -> int | None:
        """Return the thread of a phase that was passed; None before."""
        return next((entry.thread for entry in self.passed if entry.name == phase), None)


def _retired(entry: Entry) -> int:
    return entry.retired


class Timeline:
    """Listens to a run from now on; `entries` holds what has happened, also beyond the present after going back."""

    def __init__(self, history: History) -> None:
        self.target = history.target
        self.machine = history.machine
        self.history = history
        self.entries: list[Entry] = []
        self.begin = history.moment.position.retired  # events before it are not kept
        self.first = self.begin  # nothing is known of those before it
        self.early: dict[str, list[int]] = {}  # stretches with events that are no longer kept, by kind, in order
        known = self.machine.stream.kinds | self.machine.event_sites.kinds
        self.kinds = frozenset(kind for kind in known if self._is_told(kind))
        self.machine.stream.subscribe(self._listen, self.kinds, again=True)
        history.branched.append(self._branched)

    def _is_told(self, kind: str) -> bool:
        """Whether events of a kind are kept: without a kernel all, the program's own among them."""
        return not self.target.has_kernel or (kind.partition(".")[0] in AREAS and kind not in LEFT_OUT)

    @property
    def dropped(self) -> bool:
        """Whether events of the run's beginning are no longer kept."""
        return self.begin > self.history.first.position.retired

    def close(self) -> None:
        """Listen no longer."""
        self.machine.stream.unsubscribe(self._listen)
        self.history.branched.remove(self._branched)

    def _listen(self, event: Event) -> None:
        retired = self.machine.clock.retired
        if self.entries and not self._new(retired, event):
            return
        if len(self.entries) >= MOST:
            self._drop()
        self.entries.append(Entry(retired, event, self._slot_of(event)))

    def _drop(self) -> None:
        for entry in self.entries[:DROPPED]:
            stretches = self.early.setdefault(entry.event.kind, [])
            if stretches[-1:] != [entry.retired // STRETCH]:
                stretches.append(entry.retired // STRETCH)
        del self.entries[:DROPPED]
        self.begin = self.entries[0].retired

    def _new(self, retired: int, event: Event) -> bool:
        """Whether it has not been told yet: a repeated run tells again what it told before."""
        if retired != self.entries[-1].retired:
            return retired > self.entries[-1].retired
        for entry in reversed(self.entries):
            if entry.retired != retired:
                return True
            if entry.event == event:
                return False
        return True

    def _slot_of(self, event: Event) -> Slot | None:
        """Return the slot of an event: by GS and its index, by the message page, or by what the thread has loaded."""
        if not event.kind.startswith("ipc.") or not self.target.has_kernel:
            return None
        if event.kind in BY_MESSAGE:
            index = (int(str(event.fields["message"])) - USER_MESSAGES) // PAGE_SIZE
            endpoint = self.target.system.kernel.scheduler.current.process.endpoint
            return (endpoint, index) if 0 <= index < SLOTS else None
        if event.kind == "ipc.call":
            thread = event.fields.get("thread")
            before = (entry for entry in reversed(self.entries) if entry.event.kind == "ipc.load")
            return next((entry.slot for entry in before if entry.thread == thread), None)
        return self.machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT, int(str(event.fields["slot"]))

    def _branched(self, moment: Moment) -> None:
        retired = moment.position.retired
        del self.entries[self.count_to(retired) :]
        self.begin = min(self.begin, retired)
        for stretches in self.early.values():
            del stretches[bisect_right(stretches, retired // STRETCH) :]

    def count_to(self, retired: int) -> int:
        """Return how many events have come at a place in the run: those before it and at it."""
        return bisect_right(self.entries, retired, key=_retired)

    def latest(self, kinds: Collection[str], end: Position, counts: Callable[[Event], bool]) -> Last | None:
        """Return what is known of the last event of some kinds before `end`.

        Of events that are kept only those are looked at for which `counts` returns True.  None if it may have come at
        any time: there are kinds among them that are not listened to, or were not then.
        """
        if not self.kinds.issuperset(kinds) or end.retired < self.first:
            return None
        last: int | None = None
        for entry in reversed(self.entries[: self.count_to(end.retired)]):
            if last is not None and entry.retired != last:
                return Last(last + 1, only=True)
            same = entry.retired == end.retired  # where the CPU halts time passes, and where one is delivered none
            if entry.event.kind not in kinds or (same and not end.delivered and entry.event.clock >= end.clock):
                continue
            if counts(entry.event):
                if last is not None:
                    return Last(last + 1)
                last = entry.retired
        if last is not None:
            return Last(last + 1)
        limit = min(self.begin, end.retired)
        stretches = [known[: bisect_left(known, limit / STRETCH)] for kind in kinds if (known := self.early.get(kind))]
        before = min(max(((found[-1] + 1) * STRETCH for found in stretches if found), default=self.first), limit)
        return Last(before)

    @property
    def present(self) -> int:
        """How many events have come where the system stands."""
        return self.count_to(self.machine.clock.retired)

    def way(self, count: int | None = None) -> Way | None:
        """Return the way of the request of the last IPC event among the first `count`, all up to here if not given."""
        index = (self.present if count is None else count) - 1
        while index >= 0 and self.entries[index].slot is None:
            index -= 1
        if index < 0:
            return None
        last = self.entries[index]
        passed = [last]
        while index > 0 and passed[-1].event.kind != BEGINS[0]:
            index -= 1
            entry = self.entries[index]
            if entry.slot != last.slot:
                continue
            if entry.name == "release" or (passed[-1].event.kind in BEGINS and entry.event.kind not in BEGINS):
                break
            passed.append(entry)
        assert last.slot is not None
        return Way(last.slot, tuple(reversed(passed)), last.retired == self.machine.clock.retired)
