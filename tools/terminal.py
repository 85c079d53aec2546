"""The terminal of an interactive session: keys go to the guest, except the two that are the emulator's.

The terminal's own editing is off, for the guest's shell has its own.  Ctrl-C and Ctrl-] stay signals, so that
they work while the guest computes, and when it hangs: Ctrl-C becomes a break on the serial line, which ends
what runs in the guest; Ctrl-] leaves the emulator.  So does a Ctrl-C that the guest does not take, and the
third one within a second.  Ctrl-Z suspends the emulator, as any program.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final, Self

if TYPE_CHECKING:
    from types import FrameType

HINT: Final = "Ctrl-C ends what runs in the guest; Ctrl-], or Ctrl-C three times, leaves callgate"
CTRL_C, CTRL_BRACKET = b"\x03", b"\x1d"
PRESSES, PRESSES_SECONDS = 3, 1.0


class Terminal:
    """A terminal in raw mode while the context lasts; does nothing at all if not `active`."""

    def __init__(self, source: BinaryIO, active: bool) -> None:
        self.source = source
        self.active = active
        self.leaving = False
        self.presses: deque[float] = deque(maxlen=PRESSES)
        self.saved: list[object] | None = None
        self.raw: list[object] = []
        self.previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if not self.active:
            return self
        import termios

        fd = self.source.fileno()
        self.saved = termios.tcgetattr(fd)
        self.raw = raw = termios.tcgetattr(fd)
        raw[3] = raw[3] & ~(termios.ICANON | termios.ECHO | termios.IEXTEN) | termios.ISIG
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        raw[6][termios.VINTR], raw[6][termios.VQUIT] = CTRL_C, CTRL_BRACKET
        for number, handler in ((signal.SIGQUIT, self._leave), (signal.SIGCONT, self._continue)):
            self.previous[number] = signal.signal(number, handler)
        termios.tcsetattr(fd, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.saved is not None:
            import termios

            termios.tcsetattr(self.source.fileno(), termios.TCSANOW, self.saved)  # type: ignore[arg-type]
            for number, handler in self.previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _leave(self, _signal: int, _frame: FrameType | None) -> None:
        """Ctrl-]: interrupt the run as Ctrl-C does, but tell the guest nothing."""
        self.leaving = True
        signal.raise_signal(signal.SIGINT)

    def _continue(self, _signal: int, _frame: FrameType | None) -> None:
        """Set the terminal up again: while the emulator was suspended it was somebody else's."""
        import termios

        termios.tcsetattr(self.source.fileno(), termios.TCSANOW, self.raw)  # type: ignore[arg-type]

    def interrupt(self, send_break: Callable[[], bool]) -> bool:
        """Answer a Ctrl-C between two instructions of the guest: True if it is the guest's, False ends the run."""
        now = time.monotonic()
        self.presses.append(now)
        many = len(self.presses) == PRESSES and now - self.presses[0] <= PRESSES_SECONDS
        return self.active and not self.leaving and not many and send_break()
