"""A pane of rows: text in pieces, each with a role that the style sheet gives a look to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

if TYPE_CHECKING:
    from textual import events

Piece = tuple[str, str]  # text, and its role: one of ROLES, or "" for plain text
Row = Sequence[Piece]

ROLES: Final = ("dim", "title", "here", "changed", "lit", "passed", "point", "cursor", "error")


def plain(lines: Sequence[str]) -> list[Row]:
    """Return lines without roles."""
    return [[(line, "")] for line in lines]


def clean(text: str) -> str:
    """Return text without what would move the cursor of the terminal: names on disks and guests may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "�" for char in text.expandtabs(8))


class Rows(ScrollView, can_focus=True):
    """Rows that one scrolls through by keys and mouse."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rows--{role}" for role in ROLES}

    def __init__(self, **options: str) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.rows: Sequence[Row] = []

    def fill(self, rows: Sequence[Row], *, follow: int | None = None) -> None:
        """Show rows; `follow` is one that is to be seen."""
        self.rows = [[(clean(text), role) for text, role in row] for row in rows]
        width = max((sum(cell_len(text) for text, _ in row) for row in self.rows), default=0)
        self.virtual_size = Size(width, len(self.rows))
        if follow is not None:
            self.see(follow)
        self.refresh()

    def see(self, row: int) -> None:
        """Scroll so that a row is seen, in the middle if it was not."""
        height = self.scrollable_content_region.height
        top = self.scroll_offset.y
        if height and not top + 1 <= row < top + height - 2:
            # By force: rows that have just come have no scroll bar yet, without which it would not scroll.
            self.scroll_to(y=max(row - height // 2, 0), animate=False, immediate=True, force=True)

    def at(self, event: events.MouseEvent) -> int:
        """Return the row that the mouse is on."""
        return int(event.y + self.scroll_offset.y)

    def render_line(self, y: int) -> Strip:
        """Draw a line of what is seen."""
        x, top = self.scroll_offset
        width = self.scrollable_content_region.width
        index = y + top
        row = self.rows[index] if index < len(self.rows) else []
        base = self.rich_style
        segments = [
            Segment(text, base + self.get_component_rich_style(f"rows--{role}", partial=True) if role else base)
            for text, role in row
        ]
        return Strip(segments).crop_extend(x, x + width, base)

    def redraw_row(self, row: int) -> None:
        """Draw one row again."""
        self.refresh(Region(0, row - self.scroll_offset.y, self.size.width, 1))
