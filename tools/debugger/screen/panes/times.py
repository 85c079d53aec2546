"""The time line: how much happened in each part of the run, and the events around the present, to scrub along."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, ClassVar, Final

from callgate.tools.debugger.screen.panes.rows import Piece
from callgate.tools.debugger.screen.panes.simple import Pane
from callgate.tools.debugger.screen.picture import Times
from textual.binding import Binding, BindingType
from textual.message import Message

if TYPE_CHECKING:
    from callgate.tools.debugger.history.timeline import Entry
    from callgate.tools.debugger.screen.picture import Picture
    from textual import events

LEVELS: Final = " ▁▂▃▄▅▆▇█"
LETTERS: Final = {"disk": "D", "file": "F", "gate": "g", "exception": "!", "shell": "$"}
NEAR: Final = 41  # columns of the events around the present


class TimesPane(Pane):
    """Two rows.  Above, the run from its beginning to its furthest moment; below, one column an event."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "scrub(-1)", show=False),
        Binding("right", "scrub(1)", show=False),
        Binding("shift+left,pageup", "scrub(-10)", show=False),
        Binding("shift+right,pagedown", "scrub(10)", show=False),
        Binding("home", "ends(0)", show=False),
        Binding("end", "ends(1)", show=False),
    ]

    class Scrubbed(Message):
        """Go to where this number of instructions have retired."""

        def __init__(self, retired: int) -> None:
            super().__init__()
            self.retired = retired

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.times = Times()
        self.retired = 0  # where the scrubbing is: the picture follows
        self.dragged = False

    def show(self, picture: Picture) -> None:
        """Draw it."""
        self.times, self.retired = picture.times, picture.retired
        self._draw()

    def _draw(self) -> None:
        self.fill([self._whole(), self._near()])

    @property
    def present(self) -> int:
        """How many of the events have come."""
        return bisect_right(self.times.entries, self.retired, key=lambda entry: entry.retired)

    def _whole(self) -> list[Piece]:
        times, width = self.times, max(self.size.width, 1)
        most = max(times.density, default=0) or 1
        place = min((self.retired - times.first) * width // max(times.last - times.first, 1), width - 1)
        pieces: list[Piece] = []
        for column in range(width):
            amount = times.density[column * len(times.density) // width] if times.density else 0
            level = LEVELS[min(-(-amount * (len(LEVELS) - 1) // most), len(LEVELS) - 1)]
            pieces.append(("┃", "lit") if column == place else (level, "passed" if column < place else "dim"))
        return pieces

    def _near(self) -> list[Piece]:
        entries, present = self.times.entries, self.present
        if not entries:
            return [("no events yet: c runs, p runs to the next phase of a request", "dim")]
        pieces: list[Piece] = []
        for column in range(NEAR):
            index = self._index(column)
            if not 0 <= index < len(entries):
                pieces.append((" ", ""))
                continue
            role = "lit" if index == present - 1 else "passed" if index < present else "dim"
            pieces.append((letter(entries[index]), role))
        if not present:
            return [*pieces, ("  before the first event" + " that is kept" * self.times.dropped, "dim")]
        last = entries[present - 1]
        kept = " kept" * self.times.dropped
        text = f"  {self.times.before + present:,}/{self.times.total:,}{kept} {last.event}"
        return [*pieces, (text, "" if last.retired == self.retired else "dim")]

    def _index(self, column: int) -> int:
        """Return which event a column of the lower row shows: the last that has come stands in the middle."""
        return max(self.present - 1, 0) + column - NEAR // 2

    def action_scrub(self, count: int) -> None:
        """Go a number of events on, or back; those at the same instruction count once."""
        entries, here = self.times.entries, self.retired
        for _ in range(abs(count)):
            if count > 0:
                index = bisect_right(entries, here, key=lambda entry: entry.retired)
            else:
                index = bisect_left(entries, here, key=lambda entry: entry.retired) - 1
            if not 0 <= index < len(entries):
                break
            here = entries[index].retired
        self._go(here)

    def action_ends(self, end: int) -> None:
        """Go to the beginning or the end of what has been."""
        self._go(self.times.last if end else self.times.first)

    def _go(self, retired: int) -> None:
        if retired != self.retired:
            self.retired = retired
            self._draw()
            self.post_message(self.Scrubbed(retired))

    def _point(self, event: events.MouseEvent) -> None:
        times = self.times
        if event.y == 0:
            self._go(times.first + max(event.x, 0) * (times.last - times.first) // max(self.size.width - 1, 1))
        elif not self.dragged and event.x < NEAR and 0 <= self._index(event.x) < len(times.entries):
            self._go(times.entries[self._index(event.x)].retired)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Go where the mouse is."""
        self._point(event)
        self.dragged = True
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Go on with the mouse while its button is held."""
        if self.dragged:
            self._point(event)

    def on_mouse_up(self) -> None:
        """Let go."""
        self.dragged = False
        self.release_mouse()


def letter(entry: Entry) -> str:
    """Return an event in one column: the first letter of a request's phase, a capital or a sign for others."""
    return entry.name[0] if entry.area == "ipc" else LETTERS.get(entry.area, "?")
