"""The row of tabs: digits and clicks open them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.screen.panes.rows import Piece, Rows
from textual.message import Message

if TYPE_CHECKING:
    from textual import events

TAB_NAMES: Final = ("ipc", "threads", "memory", "walk", "tables", "disk", "console", "output")
TITLES: Final = ("IPC", "Threads", "Memory", "Walk", "Tables", "Disk", "Console", "Output")


class TabBar(Rows, can_focus=False):
    """Shows which tab is open."""

    class Opened(Message):
        """A tab is to be opened."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.tab = name

    def show(self, name: str) -> None:
        """Mark the open tab."""
        row: list[Piece] = []
        for number, (tab, title) in enumerate(zip(TAB_NAMES, TITLES, strict=True), 1):
            row.append((f"[{number} {title}]" if tab == name else f" {number} {title} ", "here" if tab == name else ""))
        self.fill([row])

    def on_click(self, event: events.Click) -> None:
        """Open the tab that the mouse is on."""
        end = 0
        for name, (text, _) in zip(TAB_NAMES, self.rows[0], strict=True):
            end += len(text)
            if event.x < end:
                self.post_message(self.Opened(name))
                return
