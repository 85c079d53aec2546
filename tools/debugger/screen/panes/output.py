"""What the debugger says: lines that are too long for the pane go on in the next row."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from callgate.tools.debugger.screen.panes.rows import Piece
from callgate.tools.debugger.screen.panes.simple import KEPT, PrintPane

HANGING: Final = 4  # columns by which what a line goes on with is set in, after its own indentation
NARROWEST: Final = 20  # columns below which nothing is folded


class OutputPane(PrintPane):
    """The lines that commands have said, folded between words to the width that there is."""

    def __init__(self, empty: str, **options: str) -> None:
        super().__init__(empty, **options)
        self.said: list[Piece] = []
        self.width = 0  # that they are folded to

    def add(self, text: str, role: str = "") -> None:
        """Add a line."""
        self.said.append((text, role))
        del self.said[:-KEPT]
        self.printed += folded((text, role), self.width)
        self._end()

    def on_resize(self) -> None:
        """Fold all lines to the width that there is now."""
        width = self.scrollable_content_region.width
        if self.said and width != self.width:
            self.printed = [row for line in self.said for row in folded(line, width)]
            self._end()
        self.width = width


def folded(line: Piece, width: int) -> list[Piece]:
    """Return a line as rows of at most `width` columns; a word that is longer than that is not broken."""
    text, role = line
    if len(text) <= width or width < NARROWEST:
        return [line]
    hanging = " " * (len(text) - len(text.lstrip()) + HANGING)
    rows = wrap(
        text,
        width,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return [(row, role) for row in rows]
