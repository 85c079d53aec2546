"""The keys and signs, over the panes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.tools.debugger.screen.keys import HELP
from callgate.tools.debugger.screen.panes.rows import Rows, plain
from textual.screen import ModalScreen

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult


class HelpScreen(ModalScreen[None]):
    """The keys and signs; the next key closes it."""

    def compose(self) -> ComposeResult:
        """Make it."""
        yield Rows()

    def on_mount(self) -> None:
        """Fill it."""
        rows = self.query_one(Rows)
        rows.border_title = "keys and signs: arrows scroll, any other key closes"
        rows.fill(plain(HELP.splitlines()))
        rows.focus()

    def on_key(self, event: events.Key) -> None:
        """Close, unless the key scrolls."""
        if event.key not in ("up", "down", "pageup", "pagedown", "home", "end"):
            event.stop()
            self.dismiss()
