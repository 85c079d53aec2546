"""What the worker's thread does for the screen: carries lines out, goes to places, and collects pictures."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.commands.showing import as_typed
from callgate.tools.debugger.history import HistoryInterrupted
from callgate.tools.debugger.screen.picture import Picture, Wanted, collect
from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from callgate.tools.debugger.workbench.workbench import Workbench

Told = Callable[[str, str], None]  # a line and its role: "" or "error"


class ScreenPrompt(Prompt):
    """The prompt of the line debugger, whose lines go to the screen as they come."""

    def __init__(self, bench: Workbench, told: Told) -> None:
        self.told = told
        super().__init__(bench, io.StringIO())

    def say(self, line: str) -> None:
        """Show a line."""
        self.told(line, "")


class Session:
    """Everything here runs on the worker's thread, except `aim`; the screen reads `share` and appends to `typing`."""

    def __init__(self, bench: Workbench, told: Told, drawn: Callable[[Picture], None]) -> None:
        """`told` gets each line that is said, `drawn` each picture."""
        self.bench = bench
        self.told = told
        self.drawn = drawn
        self.prompt = ScreenPrompt(bench, told)
        self.share: float | None = None  # of a query that is under way: how much of it is done, from 0 to 1
        self.prompt.desk.progress = self._progress
        self.wanted = Wanted()
        self.before: dict[str, int] | None = None  # registers at the place before this one
        self.here: tuple[object, dict[str, int]] | None = None  # the place, and registers there
        self.target: int | None = None  # where the time line is to go; a later aim replaces it
        self.typing: deque[str] = deque()  # lines for the guest that it has not been given
        bench.history.typed = self._typed

    @property
    def ended(self) -> bool:
        """Whether `quit` has been carried out."""
        return self.prompt.desk.ended

    def line(self, text: str) -> None:
        """Carry a line out as the line debugger does, and show where the system stands."""
        try:
            self.prompt.line(text)
        except CommandError as error:
            self.told(f"error: {error}", "error")
        finally:
            self.share = None
        self.draw()

    def key(self, text: str) -> None:
        """Carry out the line of a key; not while lines are given to a stop: it is none of them."""
        taking = self.prompt.desk.taking
        if taking is None:
            self.line(text)
        else:
            number = taking.stopping.number
            self.told(f"error: {text}: lines for stop {number} are being given: `end` ends them", "error")

    def _progress(self, share: float) -> None:
        self.share = share

    def _typed(self) -> bytes:
        """Return the next line that was typed while the guest runs, as it is to be given; b"" if there is none."""
        if not self.typing:
            return b""
        text = self.typing.popleft()
        self.told(f"(callgate) type {text}", "dim")
        return as_typed(text)

    def type_in(self) -> None:
        """Send what has been typed to the guest's console; a guest that waits for it runs on, others as they are told.

        A guest that was running when it was typed has been given it already, unless the run has ended before.
        """
        machine = self.bench.machine
        while self.typing:
            waits = machine.cpu.halted == (int(machine.state.count), machine.cpu.eip)
            self.key(f"type {self.typing.popleft()}")
            if waits:
                self.key("continue")

    def toggle(self, address: int) -> None:
        """Remove the breakpoints at an address, or set one if there is none."""
        numbers = self.bench.stops.at(address)
        self.key(f"delete {' '.join(map(str, numbers))}" if numbers else f"break {address:#x}")

    def aim(self, retired: int) -> None:
        """Say where the time line is to go; `scrub` goes there."""
        self.target = retired

    def scrub(self) -> None:
        """Go to the last aim: those before it have been passed over."""
        retired, self.target = self.target, None
        if retired is None:
            return
        try:
            with self.bench.following():
                self.bench.go(retired)
        except (CommandError, HistoryInterrupted) as error:
            self.told(f"error: {error or 'interrupted; the system stands where it stood'}", "error")
        self.draw()

    def draw(self) -> None:
        """Collect a picture, after what the guest has printed up to here."""
        self.bench.machine.serial.flush()
        place = self.bench.history.moment, self.bench.machine.cpu.eip
        if self.here is not None and self.here[0] != place:
            self.before = self.here[1]
        picture = collect(self.bench, self.wanted, self.before)
        self.here = place, picture.values
        self.drawn(picture)
