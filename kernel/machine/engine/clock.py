"""Virtual time and the events on it.

One retired instruction takes one nanosecond.  While the CPU halts, time skips to the next event; the time skipped is
`idle`.  So `now = retired + idle`, and a run is a function of image, input and options.
"""

import heapq
from typing import Any, NamedTuple

from callgate.kernel.machine.engine.counter_state import CounterState

Token = Any


class Clock:
    """The virtual clock."""

    def __init__(self, state: CounterState) -> None:
        self.state = state
        self.idle = 0

    @property
    def retired(self) -> int:
        """Instructions retired so far."""
        return int(self.state.count)

    @property
    def now(self) -> int:
        """Nanoseconds of virtual time."""
        return int(self.state.count) + self.idle

    def __repr__(self) -> str:
        return f"<clock {self.now} ns: {self.retired} instructions, {self.idle} ns idle>"


class Scheduled(NamedTuple):
    """An event to come; ordered by time, then by when it was scheduled."""

    time: int
    number: int
    device: str
    token: Token


class EventQueue:
    """Events that devices have scheduled, as plain data."""

    def __init__(self) -> None:
        self.heap: list[Scheduled] = []
        self.cancelled: set[int] = set()
        self.number = 0

    def at(self, time: int, device: str, token: Token) -> int:
        """Have `token` delivered to `device` at `time`; return the event's number."""
        self.number += 1
        heapq.heappush(self.heap, Scheduled(time, self.number, device, token))
        return self.number

    def cancel(self, number: int) -> None:
        """Cancel an event; nothing happens if it has come already."""
        if any(event.number == number for event in self.heap):
            self.cancelled.add(number)
        self._drop_cancelled()

    def next_time(self) -> int | None:
        """Return when the next event is due, None if there is none."""
        return self.heap[0].time if self.heap else None

    def pop_due(self, now: int) -> Scheduled | None:
        """Take the next event that is due; None if there is none."""
        if not self.heap or self.heap[0].time > now:
            return None
        event = heapq.heappop(self.heap)
        self._drop_cancelled()
        return event

    def __repr__(self) -> str:
        heap = sorted(self.heap)
        waiting = [f"{item.device} at {item.time} ns" for item in heap if item.number not in self.cancelled]
        return f"<events {', '.join(waiting) or 'none'}>"

    def _drop_cancelled(self) -> None:
        while self.heap and self.heap[0].number in self.cancelled:
            self.cancelled.discard(heapq.heappop(self.heap).number)
        if not self.heap:
            self.cancelled.clear()

    def save(self) -> tuple[list[Scheduled], set[int], int]:
        """Return the state for a snapshot."""
        return list(self.heap), set(self.cancelled), self.number

    def load(self, state: tuple[list[Scheduled], set[int], int]) -> None:
        """Go back to a saved state."""
        self.heap, self.cancelled, self.number = list(state[0]), set(state[1]), state[2]
