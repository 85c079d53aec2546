"""A sequence diagram of the requests of a run, as SVG: one row for each thing that happens, time from top to bottom.

Rows have one height, whatever time lies between them; the time stands beside each.  Colour tells operations apart;
line styles and words say the same without colour: requests are solid, replies dashed, disk commands dotted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.tools.pictures.records import Request, RunRecord
from callgate.tools.pictures.svg import document, element, fit, number, text

LEFT: Final = 112  # width of the column of times
COLUMN: Final = 168
ROW: Final = 24
HEAD: Final = 92  # height of the names of lifelines
AGAIN: Final = 60  # rows after which the names stand again
RUN: Final = 4  # half the width of the bar of a thread that runs
KIND: Final = "trace: sequence diagram"
COLOURS: Final = (  # told apart by people who do not see red or green, and dark enough on white
    *("#555555", "#0072b2", "#b35900", "#007a59", "#a03070", "#5b3fa8"),
    *("#8a6d00", "#c0392b", "#2a6f97", "#6a4c2f", "#33691e", "#7b1e5a"),
)
STYLE: Final = """
svg{background:#fff;font-family:ui-monospace,"DejaVu Sans Mono",Consolas,monospace;font-size:11px;fill:#111}
.life{stroke:#bbb;stroke-width:1}.run{fill:#ddd;stroke:#999;stroke-width:.5}.busy{fill:#fff;stroke-width:1}
.name{font-weight:bold}.group{fill:#f4f4f4;stroke:#888}.time{fill:#444}.band{fill:#fff}
.line{fill:none;stroke-width:1.4}.reply{stroke-dasharray:6 3}.disk{stroke-dasharray:1.5 2.5}
.label{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}.mark{stroke:#fff;stroke-width:.5}
"""


class Lifeline(NamedTuple):
    """A column: its key, the group that it stands in, and its name."""

    key: tuple[str, str]
    group: str
    name: str


class Row(NamedTuple):
    """A row: when, from where to where (the same: a mark), and what it says."""

    clock: int
    order: int
    source: tuple[str, str]
    target: tuple[str, str]
    words: str
    title: str
    colour: str
    style: str


@dataclass
class Layout:
    """Where columns and rows are."""

    lifelines: list[Lifeline]
    rows: list[Row]
    places: dict[tuple[str, str], float] = field(default_factory=dict)
    clocks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for index, line in enumerate(self.lifelines):
            self.places[line.key] = LEFT + COLUMN * (index + 0.5)
        self.clocks = [row.clock for row in self.rows]

    @property
    def width(self) -> float:
        """Width of the picture in pixels."""
        last = self.lifelines[-1].key if self.lifelines else None
        labels = any(row.source == row.target == last for row in self.rows)  # they stand right of their column's middle
        return LEFT + COLUMN * max(3, len(self.lifelines) + labels / 2) + 16

    @property
    def bottom(self) -> float:
        """Where the lifelines end."""
        return self.y(len(self.rows))

    def y(self, index: int) -> float:
        """Return where a row begins; names stand again before some of them."""
        return HEAD * (1 + index // AGAIN) + index * ROW

    def at(self, clock: int) -> float:
        """Return the height of a moment: that of the last row that is not later."""
        index = bisect_right(self.clocks, clock) - 1
        return self.y(max(index, 0)) + (ROW * 0.75 if index >= 0 else 0)


def draw(recording: RunRecord) -> str:
    """Return the sequence diagram of a run as an SVG file."""
    rows = sorted(_rows(recording), key=lambda row: (row.clock, row.order))
    layout = Layout(_lifelines(recording, rows), rows)
    body = [element("rect", class_="band", width=number(layout.width), height=number(layout.bottom + 60))]
    body += _backbone(layout)
    body += _running(recording, layout)
    body += _busy(recording, layout)
    body += [_row(layout, index, row) for index, row in enumerate(rows)]
    body += _heads(layout)
    body += _foot(recording, layout)
    title = f"Requests of callgate trace -c {recording.command}: {_count(recording)}"
    return document(layout.width, layout.bottom + 60, title, STYLE, body, KIND)


def colour_of(operation: str) -> str:
    """Return the colour of an operation: the same in every picture."""
    names = Operation.__members__
    value = names[operation].value if operation in names else int(operation, 0) if operation[:2] == "0x" else 0
    return COLOURS[value % len(COLOURS)]


# What happens, row by row.


def _thread(number: int) -> tuple[str, str]:
    return "thread", str(number)


def _rows(recording: RunRecord) -> Iterator[Row]:
    for request in recording.requests:
        yield from _of_request(request)
    yield from _of_disks(recording)
    yield from _of_calls(recording)


def _of_request(request: Request) -> Iterator[Row]:
    client, server = _thread(request.client), _thread(request.server)
    slots = ("slots", request.endpoint)
    colour = colour_of(request.operation)
    name = f"#{request.number} {request.operation}"
    for step in request.steps:
        message = step.scene.message
        title = (
            f"{name}, slot {request.slot} of {request.endpoint}, {step.kind} at {step.clock} ns\n"
            f"message: {' '.join(f'{value:#x}' for value in message.registers)} {message.data}\n{step.cost!r}"
        )
        match step.kind:
            case "post":
                words = f"{name}{' (posted)' * request.posted}"
                yield Row(step.clock, 0, client, slots, words, title, colour, "ask")
            case "map":
                yield Row(step.clock, 0, slots, server, f"#{request.number} mapped", title, colour, "ask")
            case "unmap":
                reply = request.at("reply")
                words = f"#{request.number} {reply.detail if reply else 'reply'}"
                yield Row(step.clock, 0, server, slots, words, title, colour, "reply")
            case "wake":
                words = f"#{request.number} {_error(message.error) or 'done'}"
                yield Row(step.clock, 0, slots, client, words, title, colour, "reply")
            case "replied":
                yield Row(step.clock, 0, slots, slots, f"#{request.number} to policy", title, colour, "mark")
            case "abandon":
                yield Row(step.clock, 0, client, client, f"#{request.number} abandoned", title, colour, "mark")
            case _:
                pass


def _error(code: int) -> str:
    try:
        return ErrorCode(code).name if code else ""
    except ValueError:
        return f"error {code:#x}"


def _of_disks(recording: RunRecord) -> Iterator[Row]:
    clocks = [switch.clock for switch in recording.switches]

    def runs(clock: int) -> tuple[str, str]:
        """Return the thread that has the CPU at a time."""
        index = bisect_right(clocks, clock) - 1
        return _thread(recording.switches[index].thread if index >= 0 else 0)

    for command in recording.commands:
        disk = ("disk", command.disk)
        words = f"{command.code} {command.lba:#x}"
        title = f"{command.code}, sector {command.lba}, slot {command.slot} of {command.disk}, {command.begun} ns"
        yield Row(command.begun, 1, runs(command.begun), disk, words, title, "#333333", "disk")
        if command.ended is not None:
            words = command.error or "done"
            title += f"\nended at {command.ended} ns: {words}"
            yield Row(command.ended, 1, disk, runs(command.ended), words, title, "#333333", "disk")


def _of_calls(recording: RunRecord) -> Iterator[Row]:
    for call in recording.system_calls:
        place = _thread(call.thread)
        words = f"system call {call.name}"
        yield Row(call.clock, 0, place, place, words, f"{words} at {call.clock} ns", "#111111", "mark")
    # Host calls that one thread makes one after the other share a row.
    events = sorted(
        [(call.clock, call.thread, call.name) for call in recording.host_calls]
        + [(step.clock, -1, "") for request in recording.requests for step in request.steps]
        + [(command.begun, -1, "") for command in recording.commands]
        + [(call.clock, -1, "") for call in recording.system_calls]
    )
    for thread, group in groupby(events, key=lambda event: event[1]):
        calls = list(group)
        if thread < 0:
            continue
        names = ", ".join(name for _, _, name in calls)
        title = "host calls:\n" + "\n".join(f"{clock} ns {name}" for clock, _, name in calls)
        yield Row(calls[0][0], 2, _thread(thread), _thread(thread), names, title, "#777777", "host")


# Drawing.


def _lifelines(recording: RunRecord, rows: list[Row]) -> list[Lifeline]:
    """Return the columns that rows need: clients and kernel threads, then each endpoint's slots and servers, disks."""
    used = {key for row in rows for key in (row.source, row.target)}
    threads = [record for record in recording.threads.values() if _thread(record.number) in used]
    lines = []
    for record in sorted(threads, key=lambda record: (record.role != "client", record.process, record.number)):
        if record.role != "server":
            lines.append(Lifeline(_thread(record.number), record.process_name, f"{record.number} {record.name}"))
    of_endpoint: dict[str, set[int]] = {}
    for request in recording.requests:
        of_endpoint.setdefault(request.endpoint, set()).add(request.server)
    placed = set()
    for endpoint, servers in of_endpoint.items():
        lines.append(Lifeline(("slots", endpoint), f"endpoint {endpoint}", f"slots of {endpoint}"))
        for record in threads:
            if record.number in servers and record.number not in placed:
                placed.add(record.number)
                lines.append(Lifeline(_thread(record.number), record.process_name, f"{record.number} {record.name}"))
    for record in threads:
        if record.role == "server" and record.number not in placed:
            lines.append(Lifeline(_thread(record.number), record.process_name, f"{record.number} {record.name}"))
    known = {line.key for line in lines}
    lines += [
        Lifeline(key, "", "before the first thread") for key in sorted(used) if key[0] == "thread" and key not in known
    ]
    lines += [Lifeline(key, "disks", key[1]) for key in sorted(used) if key[0] == "disk"]
    return lines


def _backbone(layout: Layout) -> list[str]:
    return [
        element("line", class_="life", x1=number(x), x2=number(x), y1=HEAD, y2=number(layout.bottom))
        for x in layout.places.values()
    ]


def _running(recording: RunRecord, layout: Layout) -> list[str]:
    """Draw bars where threads have the CPU."""
    bars = []
    for thread, begin, end in recording.running():
        x = layout.places.get(_thread(thread))
        top, bottom = layout.at(begin), layout.at(end)
        if x is not None and bottom > top:
            title = f"runs from {begin} to {end} ns"
            bars.append(
                element(
                    "rect",
                    title=title,
                    class_="run",
                    x=number(x - RUN),
                    y=number(top),
                    width=2 * RUN,
                    height=number(bottom - top),
                )
            )
    return bars


def _busy(recording: RunRecord, layout: Layout) -> list[str]:
    """Draw a bar for each slot that is in use, beside others of its endpoint."""
    bars = []
    for request in recording.requests:
        top, bottom = layout.at(request.first), layout.at(request.last if request.ended else recording.end)
        x = layout.places[("slots", request.endpoint)] - RUN + 5 * (request.slot % 8)
        title = f"#{request.number} has slot {request.slot} from {request.first} to {request.last} ns"
        bars.append(
            element(
                "rect",
                title=title,
                class_="busy",
                stroke=colour_of(request.operation),
                x=number(x),
                y=number(top),
                width=2 * RUN,
                height=number(max(bottom - top, 2)),
            )
        )
    return bars


def _row(layout: Layout, index: int, row: Row) -> str:
    y = layout.y(index) + ROW * 0.75
    start, end = layout.places[row.source], layout.places[row.target]
    time = text(LEFT - 12, y, f"{row.clock}", class_="time", text_anchor="end")
    if row.source == row.target:
        return element("g", time + _mark(start, y, row), title=row.title)
    direction = 1 if end > start else -1
    tip = end - direction * (RUN + 1)
    line = element(
        "path",
        d=f"M{number(start + direction * RUN)} {number(y)}H{number(tip)}",
        class_=f"line {row.style}",
        stroke=row.colour,
    )
    back = number(tip - direction * 7)
    head = f"M{back} {number(y - 4)}L{number(tip)} {number(y)}L{back} {number(y + 4)}"
    solid = row.style == "ask"
    arrow = element("path", d=head + "Z" * solid, fill=row.colour if solid else "none", stroke=row.colour)
    span = abs(end - start) - 26
    # Beside the source the label crosses no other lifeline, however far the arrow goes.
    x = start + direction * 10
    anchor = "start" if direction > 0 else "end"
    label = text(x, y - 4, fit(row.words, max(span, COLUMN - 26)), class_="label", text_anchor=anchor)
    return element("g", time + line + arrow + label, title=row.title)


def _mark(x: float, y: float, row: Row) -> str:
    size = 3 if row.style == "host" else 4
    d = f"M{number(x - size)} {number(y)}l{size} -{size}l{size} {size}l-{size} {size}Z"
    mark = element("path", d=d, fill=row.colour, class_="mark")
    return mark + text(x + 9, y + 3.5, fit(row.words, COLUMN - 22), class_="label", fill=row.colour)


def _heads(layout: Layout) -> list[str]:
    """Draw the names of the lifelines, at the top and again after every AGAIN rows."""
    parts = []
    for again in range(1 + max(len(layout.rows) - 1, 0) // AGAIN):
        top = layout.y(again * AGAIN) - HEAD
        parts.append(element("rect", class_="band", y=number(top), width=number(layout.width), height=HEAD - 4))
        parts.append(text(LEFT - 12, top + 72, "virtual ns", class_="time", text_anchor="end"))
        for group, members in groupby(enumerate(layout.lifelines), key=lambda member: member[1].group):
            columns = [index for index, _ in members]
            x, width = LEFT + COLUMN * columns[0] + 3, COLUMN * len(columns) - 6
            box = element("rect", class_="group", x=x, y=number(top + 30), width=width, height=52, rx=4)
            parts.append(box + text(x + 8, top + 46, fit(group or "boot", width - 16)))
        for line in layout.lifelines:
            name = fit(line.name, COLUMN - 14)
            parts.append(
                text(
                    layout.places[line.key],
                    top + 72,
                    name,
                    class_="name",
                    text_anchor="middle",
                    data_key=line.key[1],
                )
            )
    return parts


def _count(recording: RunRecord) -> str:
    count = len(recording.requests)
    return f"{count} request{'s' * (count != 1)}"


def _foot(recording: RunRecord, layout: Layout) -> list[str]:
    total = recording.total
    words = (
        f"{_count(recording)}, {total.guest_instructions} instructions ({total.ring0} in ring 0), "
        f"{total.host_call_count} host calls, {len(recording.commands)} disk commands, "
        f"{recording.end - recording.begin} ns"
    )
    headline = f"callgate trace -c {recording.command}"
    return [
        text(12, 18, fit(headline, layout.width - 24), class_="name"),
        text(12, layout.bottom + 36, fit(words, layout.width - 24)),
    ]
