"""What the panes show: plain data, collected from a workbench at one moment of the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from callgate.kernel.core.errors import KernelPanic
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.commands import tracing, views
from callgate.tools.debugger.commands.arguments import place_of
from callgate.tools.debugger.commands.language import Desk
from callgate.tools.debugger.workbench import looks
from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from callgate.tools.debugger.history.timeline import Entry
    from callgate.tools.debugger.workbench.workbench import Workbench

TABLES: Final = ("gdt", "ldt", "idt", "tss")
INSTRUCTIONS: Final = 100  # of the disassembly
MEMORY: Final = 512  # bytes of the memory pane
EVENTS: Final = 400  # to each side of the present that the time line knows
PARTS: Final = 64  # of the run, for which the time line shows how much happened


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a picture is to show beside what it always shows."""

    pane: str = ""  # the tab that is open: only its view is collected
    source: bool = True  # lines of source where they are known, otherwise instructions
    memory: str = "esp"
    walk: str = "eip"
    table: str = "gdt"


@dataclass(frozen=True, slots=True)
class WayLook:
    """The way of the last request: whose it is, and its phases with "passed", "present" or "to come"."""

    title: str
    endpoint: int
    slot: int
    phases: tuple[tuple[str, str], ...]
    here: bool


@dataclass(frozen=True, slots=True)
class Times:
    """The events around the present: `entries[present - 1]` is the last that has come."""

    entries: tuple[Entry, ...] = ()
    present: int = 0
    before: int = 0  # how many came before the first of `entries`
    total: int = 0
    density: tuple[int, ...] = ()  # events in each part of the run
    first: int = 0  # where the run begins, in instructions
    last: int = 0
    dropped: bool = False  # events of the run's beginning are no longer kept


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment of the run."""

    retired: int
    position: str
    past: bool
    thread: str
    ring: int
    place: str
    registers: looks.RegisterLook
    code_name: str = ""
    code: tuple[looks.CodeRow, ...] = ()
    threads: tuple[looks.ThreadLook, ...] = ()
    endpoints: tuple[looks.EndpointLook, ...] = ()
    way: WayLook | None = None
    message: tuple[str, ...] = ()  # of that request, decoded
    pane: str = ""
    lines: tuple[str, ...] = ()  # of the open tab, if it shows a view as it is
    stops: tuple[str, ...] = ()
    times: Times = field(default_factory=Times)
    values: dict[str, int] = field(default_factory=dict)  # registers, to compare the next picture with


def collect(bench: Workbench, wanted: Wanted, before: dict[str, int] | None) -> Picture:
    """Look at everything; `before` are the registers at the place that the run has left."""
    history, thread = bench.history, bench.debuggee.threads.running()
    name, rows = looks.source(bench) if wanted.source else ("", [])
    picture = Picture(
        bench.machine.clock.retired,
        str(bench.machine.position),
        history.in_past,
        f"thread {thread.number} {thread.name}" if thread.record is not None else "no thread yet",
        bench.machine.cpu.cpl,
        bench.code.name(bench.machine.cpu.eip),
        looks.registers(bench, before),
        code_name=name or "instructions",
        code=tuple(rows or looks.code_around(bench, INSTRUCTIONS)),
        threads=tuple(looks.threads(bench)),
        endpoints=tuple(looks.endpoints(bench)),
        pane=wanted.pane,
        lines=tuple(lines_of(bench, wanted)),
        stops=tuple(stop.text for stop in bench.stops.known.values()),
        times=times(bench),
        values=bench.machine.cpu.registers(),
    )
    found = way(bench)
    return replace(picture, way=found, message=tuple(message(found, picture.endpoints)))


def way(bench: Workbench) -> WayLook | None:
    """Return the way of the last request; None if there has been none."""
    found = bench.timeline.way()
    if found is None:
        return None
    return WayLook(tracing.title(bench, found), *found.slot, tuple(tracing.phases(found)), found.here)


def message(found: WayLook | None, endpoints: tuple[looks.EndpointLook, ...]) -> list[str]:
    """Return the message page of the last request, also when its slot has been given back."""
    for endpoint in endpoints:
        if found is not None and endpoint.number == found.endpoint:
            return views.request(endpoint.slots[found.slot])
    return []


def lines_of(bench: Workbench, wanted: Wanted) -> list[str]:
    """Return the lines of the open tab; what it cannot show is said in its place."""
    desk = Desk(bench, lambda _line: None)
    try:
        match wanted.pane:
            case "memory":
                return views.memory(bench, place_of(desk, wanted.memory), MEMORY, 4)
            case "walk":
                return views.walk(bench, place_of(desk, wanted.walk))
            case "tables":
                others = ", ".join(table.upper() for table in TABLES if table != wanted.table)
                title = f"{wanted.table.upper()}; t shows the next of {others}"
                return [title, *views.descriptors(bench, wanted.table)]
            case "disk":
                return tracing.disk_lines(bench)
    except CommandError as error:
        return [str(error)]
    except (PageFault, DmaError, KernelPanic):
        return ["it lies where no memory is mapped"]
    return []


def times(bench: Workbench) -> Times:
    """Return the events around the present, and how many there are in each part of the run."""
    timeline, history = bench.timeline, bench.history
    present = timeline.present
    low = max(present - EVENTS, 0)
    first, last = history.first.position.retired, max(history.edge.position.retired, 1)
    span = max(last - first, 1)
    bounds = [timeline.count_to(first + span * part // PARTS) for part in range(PARTS)] + [len(timeline.entries)]
    bounds[0] = 0
    return Times(
        tuple(timeline.entries[low : present + EVENTS]),
        present - low,
        low,
        len(timeline.entries),
        tuple(end - begin for begin, end in pairwise(bounds)),
        first,
        last,
        timeline.dropped,
    )
