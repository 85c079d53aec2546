"""The IPC pane: the last request's way, its endpoint with slots, masks and ring, and its message page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.message import SlotState
from callgate.kernel.abi.selectors import SLOTS
from callgate.tools.debugger.screen.panes.rows import Piece, Row
from callgate.tools.debugger.screen.panes.simple import Pane
from callgate.tools.debugger.workbench.looks import LEGEND

if TYPE_CHECKING:
    from callgate.tools.debugger.screen.picture import Picture, WayLook
    from callgate.tools.debugger.workbench.looks import EndpointLook

LABEL: Final = 8  # columns of the names of rows
ROLES: Final = {"passed": "passed", "present": "lit", "to come": "dim"}
DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"  # a slot in one column
COLUMN: Final = 38  # of the table of slots


class IpcPane(Pane):
    """Shows the endpoint of the last request, or the one that was chosen."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.chosen: int | None = None  # number of an endpoint; None follows the requests

    def show(self, picture: Picture) -> None:
        """Draw it all."""
        rows: list[Row] = []
        if picture.way is not None:
            rows += way_rows(picture.way, self.size.width or 80)
        endpoint = self._endpoint(picture)
        if endpoint is None:
            self.fill([*rows, [("no server takes requests yet: r runs to the first request", "dim")]])
            return
        rows += head_rows(endpoint, chosen=self.chosen is not None)
        if picture.way is not None and picture.way.endpoint == endpoint.number:
            rows += message_rows(picture, self.size.width)
        self.fill([*rows, *mask_rows(endpoint), *table_rows(endpoint, self.size.width or 80)])

    def _endpoint(self, picture: Picture) -> EndpointLook | None:
        wanted = self.chosen if self.chosen is not None else picture.way.endpoint if picture.way else None
        known = {endpoint.number: endpoint for endpoint in picture.endpoints}
        return known.get(wanted) if wanted in known else next(iter(picture.endpoints), None)

    def choose_next(self) -> None:
        """Show the next endpoint; after the last one, follow the requests again."""
        if self.picture is None:
            return
        numbers: list[int | None] = [None, *(endpoint.number for endpoint in self.picture.endpoints)]
        at = numbers.index(self.chosen) if self.chosen in numbers else 0
        self.chosen = numbers[(at + 1) % len(numbers)]
        self.show(self.picture)


def way_rows(way: WayLook, width: int) -> list[Row]:
    """Return whose request it is, and its phases in a row, in more than one where they do not fit."""
    rows: list[Row] = [[(way.title, "title"), ("" if way.here else "  (between two phases)", "dim")]]
    wide = sum(len(name) for name, _ in way.phases) + 3 * len(way.phases) < width
    between = " → " if wide else " "
    row: list[Piece] = []
    used = 0
    for index, (name, state) in enumerate(way.phases):
        before = "" if not row else between
        if used + len(before) + len(name) + (state == "present") > width:
            rows.append(row)
            row, used, before = [], 0, ""
        if state == "present":
            bracket = before[:-1] + "["
            following = between[1:] if index + 1 < len(way.phases) else ""
            row += [(bracket, "dim"), (name, ROLES[state]), ("]" + following, "dim")]
            used += len(bracket) + len(name) + 1 + len(following)
            continue
        if row and row[-1][0].startswith("]"):
            before = ""
        row += [(before, "dim"), (name, ROLES[state])]
        used += len(before) + len(name)
    return [*rows, row]


def message_rows(picture: Picture, width: int) -> list[Row]:
    """Return the message page, decoded; what stands there before the request has filled it is another one's."""
    assert picture.way is not None
    if ("fill", "to come") in picture.way.phases:
        return [[("the message page is not filled yet", "dim")]]
    lines = [line.strip() for line in picture.message[1:]]
    narrow = any(len(line) > width for line in lines)
    return [[(line.replace("  ", " ") if narrow else line, "")] for line in lines]


def head_rows(endpoint: EndpointLook, *, chosen: bool) -> list[Row]:
    """Return the slots as letters, and the ring."""
    block = endpoint.block
    cells = [" "] * SLOTS
    for offset, slot in enumerate(endpoint.queue):
        cells[(block.head + offset) % SLOTS] = DIGITS[slot]
    head, tail = block.head % SLOTS, block.tail % SLOTS
    busy = [f"{slot.index} {slot.state.name.lower()}" for slot in endpoint.busy]
    letters: list[Piece] = []
    for view, letter in zip(endpoint.slots, endpoint.letters, strict=True):
        letters.append((letter, "dim" if view.state is SlotState.FREE else "lit"))
    ring = "".join(cell if cell != " " else "·" for cell in cells)
    waiting = f"{len(endpoint.queue)} waiting" if endpoint.queue else "empty"
    pin = "; e shows the next endpoint" if chosen else ""
    return [
        [
            (f"{endpoint.name[: LABEL - 1]:<{LABEL}}", "title"),
            *letters,
            (f"  {', '.join(busy) or 'all free'}{pin}", ""),
        ],
        [
            (f"{'ring':<{LABEL}}", "dim"),
            *_marked(ring, head, tail),
            (f"  head {block.head} tail {block.tail}, {waiting}", ""),
        ],
    ]


def _marked(ring: str, head: int, tail: int) -> list[Piece]:
    """Return the ring's cells: a sign at an empty one of the head, of the tail, or of both."""
    pieces: list[Piece] = []
    for index, cell in enumerate(ring):
        if index == head == tail:
            pieces.append(("◆", "changed"))
        elif index in (head, tail) and cell == "·":
            pieces.append(("▷" if index == tail else "◁", "changed"))
        else:
            pieces.append((cell, "lit" if cell != "·" else "dim"))
    return pieces


def mask_rows(endpoint: EndpointLook) -> list[Row]:
    """Return the masks as bits, bit 0 first, below a scale."""
    block = endpoint.block
    scale = "".join(f"{index:<8}" for index in range(0, SLOTS, 8))
    rows: list[Row] = [[(f"{'bit':<{LABEL}}{scale}  {LEGEND}", "dim")]]
    for name, note in (
        ("unused", "never used, no page yet"),
        ("free", "has a page, is free"),
        ("idle", "server sleeps"),
    ):
        value = getattr(block, name)
        bits = [("1" if value >> bit & 1 else "0", "" if value >> bit & 1 else "dim") for bit in range(SLOTS)]
        rows.append([(f"{name:<{LABEL}}", "dim"), *bits, (f"  {value:08x}  {note}", "dim")])
    names = ("slot_waiters", "replies", "bad_replies", "aborted")
    counts = "  ".join(f"{name.replace('_', ' ')} {getattr(block, name)}" for name in names)
    dead = "  DEAD" if block.flags else ""
    rows.append([(f"endpoint {endpoint.number}, {endpoint.file_system or 'no file system'}: {counts}{dead}", "")])
    return rows


def table_rows(endpoint: EndpointLook, width: int) -> list[Row]:
    """Return the slots with state, client and operation, in as many columns as fit."""
    columns = max(min(width // COLUMN, 4), 1)
    height = -(-SLOTS // columns)
    rows: list[Row] = []
    for top in range(height):
        row: list[Piece] = []
        for index in range(top, SLOTS, height):
            slot, letter = endpoint.slots[index], endpoint.letters[index]
            state = "unused" if letter == "." else slot.state.name.lower()
            busy = slot.state is not SlotState.FREE
            client = (
                f"{slot.client.number} {slot.client.name[:10]}" if slot.client is not None else "policy" if busy else ""
            )
            text = f"{index:>2} {state:<7} {client:<14}{slot.operation if busy else ''}"
            row.append((f"{text[: COLUMN - 1]:<{COLUMN}}", "" if busy else "dim"))
        rows.append(row)
    return rows
