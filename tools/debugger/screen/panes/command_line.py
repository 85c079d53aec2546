"""The command line of the screen: completion and history as in the line debugger."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class CommandLine(Input):
    """A line to type: Tab completes, up and down go through earlier lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", show=False),
        Binding("up", "earlier(-1)", show=False),
        Binding("down", "earlier(1)", show=False),
    ]

    class Offered(Message):
        """There is more than one word to complete to."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, complete: Callable[[str, str], list[str]] | None = None, **options: str) -> None:
        """`complete` returns what the last word of a line may become; without it Tab goes to the next pane."""
        super().__init__(compact=True, select_on_focus=False, **options)  # type: ignore[arg-type]
        self.complete = complete
        self.earlier: list[str] = []
        self.place = 0

    def take(self) -> str:
        """Return the line, and begin another one."""
        text, self.value = self.value, ""
        if text.strip() and text not in self.earlier[-1:]:
            self.earlier.append(text)
        self.place = len(self.earlier)
        return text

    def action_earlier(self, step: int) -> None:
        """Show an earlier line, or a later one."""
        self.place = min(max(self.place + step, 0), len(self.earlier))
        self.value = self.earlier[self.place] if self.place < len(self.earlier) else ""
        self.cursor_position = len(self.value)

    def action_complete(self) -> None:
        """Complete the last word as far as it is certain; without completion, go to the next pane."""
        if self.complete is None:
            self.screen.focus_next()
            return
        line = self.value
        word = line.rpartition(" ")[2]
        offered = self.complete(word, line)
        if not offered:
            return
        common = len(word)
        while len({found[: common + 1] for found in offered}) == 1 and common < len(offered[0]):
            common += 1
        self.value = line[: len(line) - len(word)] + offered[0][:common]
        self.cursor_position = len(self.value)
        if len(offered) > 1:
            self.post_message(self.Offered(" ".join(found.strip() for found in offered)))
