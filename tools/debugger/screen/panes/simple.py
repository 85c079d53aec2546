"""The panes, each drawn from a picture."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, overload

from callgate.tools.debugger.screen.panes.rows import Piece, Row, Rows, clean, plain
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

if TYPE_CHECKING:
    from callgate.tools.debugger.screen.picture import Picture
    from callgate.tools.debugger.workbench.looks import CodeRow, Register
    from textual import events

ORDER: Final = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")
SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
NARROW: Final = 70  # columns below which a thread's place is not shown
KEPT: Final = 5000  # lines of what was printed
LONGEST_LINE: Final = 1000  # characters, after which one is broken
MOVING: Final = re.compile(r"[\r\b\a]")
CONTROL: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\a\x1b]*(?:\a|\x1b\\)|.)")


class Pane(Rows):
    """A pane that shows a part of each picture."""

    picture: Picture | None = None

    def take(self, picture: Picture) -> None:
        """Show a picture from now on."""
        self.picture = picture
        self.show(picture)

    def on_resize(self) -> None:
        """Lay it out anew."""
        if self.picture is not None:
            self.show(self.picture)

    def show(self, picture: Picture) -> None:
        """Draw a picture."""
        raise NotImplementedError


class RegisterPane(Pane):
    """The registers, two a row, and the ladder of flags; what has changed is marked."""

    def show(self, picture: Picture) -> None:
        """Draw the registers."""
        look = picture.registers
        known = {register.name: register for register in look.registers} | {"eflags": look.eflags}
        pairs = [*zip(ORDER[::2], ORDER[1::2], strict=True), ("eip", "eflags")]
        rows: list[Row] = [[*cell(known[left], 8), ("  ", ""), *cell(known[right], 8)] for left, right in pairs]
        for names in (SEGMENTS[:3], SEGMENTS[3:]):
            rows.append([piece for name in names for piece in (*cell(known[name], 4), (" ", ""))])
        ladder: list[Piece] = []
        for flag in look.flags:
            role = "changed" if flag.changed else "" if flag.set else "dim"
            ladder += [(flag.name if flag.set else flag.name.lower(), role), (" ", "")]
        rows.append(ladder)
        rows.append([(f"IOPL {look.iopl}  CPL {look.cpl}, ring {picture.ring}", "dim")])
        self.fill(rows)


def cell(register: Register, digits: int) -> list[Piece]:
    """Return a register's name and value, * if it has changed."""
    name = "efl" if register.name == "eflags" else register.name
    return [
        (f"{name:<3} ", "dim"),
        (f"{register.value:0{digits}x}{'*' if register.changed else ' '}", "changed" if register.changed else ""),
    ]


class CodePane(Pane):
    """Source or instructions: => is the next one, ● a breakpoint.  A cursor moves by keys and mouse."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "move(-8)", show=False),
        Binding("pagedown", "move(8)", show=False),
        Binding("home", "here", show=False),
        Binding("b,enter,space", "mark", show=False),
    ]

    class Toggled(Message):
        """A breakpoint is to be set or removed at an address."""

        def __init__(self, address: int) -> None:
            super().__init__()
            self.address = address

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.code: tuple[CodeRow, ...] = ()
        self.cursor = 0
        self.place: tuple[str, int] = ("", -1)

    def show(self, picture: Picture) -> None:
        """Draw the code; the cursor goes with the next instruction, and stays if that has not moved."""
        self.code = picture.code
        place = picture.code_name, picture.retired
        if place != self.place or self.cursor >= len(self.code):
            self.place = place
            self.cursor = next((index for index, row in enumerate(self.code) if row.current), 0)
        if not self.code:
            self.fill([[("no instruction can be fetched here", "error")]])
            return
        self._draw()

    def _draw(self) -> None:
        self.fill([self._row(index, row) for index, row in enumerate(self.code)], follow=self.cursor)

    def _row(self, index: int, row: CodeRow) -> Row:
        mark = ("●" if row.point else " ", "point")
        role = "here" if row.current else "cursor" if index == self.cursor and self.has_focus else ""
        shown = "" if row.address is not None else "dim"
        return [
            mark,
            ("=>" if row.current else "  ", role),
            (f"{row.label} ", role or "dim"),
            (row.text, role or shown),
        ]

    @property
    def address(self) -> int | None:
        """The address at the cursor: of the next line that has one."""
        rest = self.code[self.cursor :]
        return next((row.address for row in rest if row.address is not None), None)

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self.cursor = min(max(self.cursor + rows, 0), max(len(self.code) - 1, 0))
        self._draw()

    def action_here(self) -> None:
        """Move the cursor to the next instruction."""
        self.cursor = next((index for index, row in enumerate(self.code) if row.current), self.cursor)
        self._draw()

    def action_mark(self) -> None:
        """Set or remove a breakpoint at the cursor."""
        if self.address is not None:
            self.post_message(self.Toggled(self.address))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; in the margin, and by a double click, set or remove a breakpoint."""
        if self.at(event) < len(self.code):
            self.cursor = self.at(event)
            self._draw()
            if event.x + self.scroll_offset.x < len("●=>") or event.chain > 1:
                self.action_mark()

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self.see(self.cursor)

    def on_focus(self) -> None:
        """Show the cursor."""
        self._draw()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self._draw()


class ThreadPane(Pane):
    """The threads, with their states in words."""

    def show(self, picture: Picture) -> None:
        """Draw them."""
        if self.size.width < NARROW:
            self.fill(
                [
                    [
                        ("=>" if look.running else "  ", ""),
                        (f"{look.number:>3} {look.name[:14]:<14} ", "here" if look.running else ""),
                        (look.state, ""),
                    ]
                    for look in picture.threads
                ]
            )
            return
        rows: list[Row] = [[("    thread            process state                 at", "title")]]
        for look in picture.threads:
            text = f"{look.number:>3} {look.name:<17} {look.process:>4}   {look.state:<21} "
            rows.append(
                [("=>" if look.running else "  ", ""), (text, "here" if look.running else ""), (look.place, "dim")]
            )
        self.fill(rows)


class ViewPane(Pane):
    """A view of the line debugger, as it is."""

    def show(self, picture: Picture) -> None:
        """Draw it, if it is what the picture was made for."""
        if picture.pane == self.name:
            self.fill(plain(picture.lines))


class Lines(Sequence[Row]):
    """Lines with their roles, which become rows when they are looked at: a guest prints more than is ever seen."""

    def __init__(self, lines: list[Piece]) -> None:
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        text, role = self.lines[index]
        return [(clean(_typed(text)), role)]


class PrintPane(Rows):
    """What was printed, in order: by the debugger, or by the guest."""

    def __init__(self, empty: str, **options: str) -> None:
        """`empty` is shown as long as nothing has been."""
        super().__init__(**options)
        self.printed: list[Piece] = []
        self.empty = empty
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""
        self.cut = False  # there were more lines than are kept

    def on_mount(self) -> None:
        """Say that nothing is there."""
        self.fill([[(self.empty, "dim")]])

    def add(self, text: str, role: str = "") -> None:
        """Add a line."""
        self.printed.append((text, role))
        self._end()

    def write(self, data: bytes) -> None:
        """Add what a guest has sent to its terminal; control sequences are left out, and a long line is broken."""
        text = CONTROL.sub("", self.rest + self.decoder.decode(data)).replace("\r\n", "\n")
        *lines, self.rest = text.split("\n")
        for line in lines:
            self._break(line)
        if len(self.rest) > LONGEST_LINE:
            whole = len(self.rest) // LONGEST_LINE * LONGEST_LINE
            self._break(self.rest[:whole])
            self.rest = self.rest[whole:]
        self._end()

    def _break(self, line: str) -> None:
        for begin in range(0, max(len(line), 1), LONGEST_LINE):
            self.printed.append((line[begin : begin + LONGEST_LINE], ""))

    def _end(self) -> None:
        """Show the last rows."""
        self.cut = self.cut or len(self.printed) > KEPT
        del self.printed[:-KEPT]
        first = [(f"earlier lines are not kept: the last {KEPT:,} are", "dim")] * self.cut
        shown = [*first, *self.printed, *[(self.rest, "")] * bool(self.rest)]
        self.rows = Lines(shown)
        self.virtual_size = Size(max((len(text) for text, _ in shown), default=0), len(shown))
        self.refresh()
        self.scroll_end(animate=False)


def _typed(line: str) -> str:
    """Return a line as a terminal shows it after carriage returns and backspaces."""
    if not MOVING.search(line):
        return line
    shown: list[str] = []
    at = 0
    for char in line:
        if char == "\r":
            at = 0
        elif char == "\b":
            at = max(at - 1, 0)
        elif char != "\a":
            shown[at : at + 1] = [char]
            at += 1
    return "".join(shown)
