"""The links of a chain: what wrote a location, when, and in which thread."""

from __future__ import annotations

from dataclasses import dataclass

from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.target.target import FIRST_CALL, POWER_ON
from callgate.tools.debugger.why.locations import Location


@dataclass(frozen=True, slots=True)
class Writer:
    """The thread that wrote: its number and name, those of its process (None without a kernel), and the ring, 0 to 3.

    Of what policy wrote it is the thread that made the host call.
    """

    thread: int
    name: str
    process: int | None
    process_name: str
    ring: int

    def __str__(self) -> str:
        process = "" if self.process is None else f" of process {self.process} {self.process_name!r}"
        return f"thread {self.thread} {self.name!r}{process}, ring {self.ring}"


@dataclass(frozen=True, slots=True)
class Link:
    """One step back: `location` had `value`; `by` wrote it, and it came from `source` (None: the chain ends there).

    `moment` is just before the instruction; for a device or a host call, just after it.  `clock` is the virtual time
    there in ns, as in the first column of a trace.  `writer` is None for a device, for a change by hand, and for what
    nothing wrote.
    """

    location: Location
    value: int
    moment: Moment
    clock: int
    by: str
    writer: Writer | None = None
    note: str = ""
    source: Location | None = None
    inputs: tuple[str, ...] = ()  # as in a `Source`

    def __str__(self) -> str:
        lines = [f"{self.location} = {self.value:#0{2 * self.location.size + 2}x}", f"  {self.by}"]
        if self.by not in (POWER_ON, FIRST_CALL):
            who = f", {self.writer}" if self.writer is not None else ""
            lines.append(f"  at {self.moment.position}, {self.clock} ns{who}")
        if self.note:
            lines.append(f"  {self.note}")
        if self.inputs:
            lines.append("  the chain ends here; it goes on for one of them, by")
            lines += [f"    {line}" for line in self.onward]
        return "\n".join(lines)

    @property
    def onward(self) -> list[str]:
        """How the chain goes on for each of the inputs: a command to go to a place, and one to follow it there."""
        parted = (name.partition(" at ") for name in self.inputs)
        return [f"goto {at or self.moment.position.retired}, why -c {name}" for name, _, at in parted]
