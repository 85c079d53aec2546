"""What the worker's thread tells the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from callgate.tools.debugger.screen.picture import Picture


class Said(Message):
    """The worker has said a line."""

    def __init__(self, line: str, role: str) -> None:
        super().__init__()
        self.line, self.role = line, role


class Drawn(Message):
    """The worker has collected a picture."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class Printed(Message):
    """The guest has printed something."""


class Rested(Message):
    """The worker has nothing to do."""


class Failed(Message):
    """The worker has met an error that it did not expect."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
