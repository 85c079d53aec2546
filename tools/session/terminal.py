"""The terminal of an interactive session: keys go to the guest, except the two that are the emulator's.

The terminal's own editing is off, since the guest's shell has its own.  Ctrl-C and Ctrl-] stay signals, so that
they work while the guest computes, and when it hangs: Ctrl-C becomes a break on the serial line, which ends the running
program of the guest; Ctrl-] leaves the emulator.  So does a Ctrl-C that the guest does not take, and the third one
within a second.  Ctrl-Z suspends the emulator, as any program.

A process that is killed, or that the engine aborts, cannot restore its terminal. A guard does: a child that only waits
for the end of a pipe whose other end only the emulator holds.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final, Self

if TYPE_CHECKING:
    from types import FrameType

HINT: Final = "Ctrl-C ends what runs in the guest; Ctrl-], or Ctrl-C three times, leaves callgate"
CTRL_C, CTRL_BRACKET = b"\x03", b"\x1d"
PRESSES, PRESSES_SECONDS = 3, 1.0
FILES: Final = 1024  # descriptors that the emulator may have open
SIZE_LIMIT: Final = 9999
DONE: Final = b"."  # to the guard: the terminal has been restored

Modes = list[int | list[bytes | int]]  # the result of termios.tcgetattr


class Terminal:
    """A terminal in raw mode while the context lasts; does nothing at all if not `active`."""

    def __init__(self, source: BinaryIO, active: bool) -> None:
        self.source = source
        self.active = active
        self.leaving = False
        self.presses: deque[float] = deque(maxlen=PRESSES)
        self.saved: Modes | None = None
        self.raw: Modes = []
        self.previous: dict[int, object] = {}
        self.guard: Guard | None = None
        self.told = 0  # columns that the guest knows
        self.again = False  # the guest is to show its line again: other output was written to the terminal

    @property
    def columns(self) -> int:
        """The terminal's width in characters now; 0 if it is not known."""
        try:
            return min(os.get_terminal_size(self.source.fileno()).columns, SIZE_LIMIT)
        except (OSError, ValueError):
            return 0

    def tell(self) -> int:
        """Return the width for the guest to begin with."""
        self.told = self.columns if self.active else 0
        return self.told

    def report(self) -> bytes:
        """Return a report of the terminal for the guest's shell, as if it had been typed; nothing if it is unchanged.

        That is the control sequence by which xterm reports its size, with 9 for 8 if the line is to be shown again.
        """
        columns = self.columns
        if not self.active or (columns == self.told and not self.again):
            return b""
        kind, self.told, self.again = 9 if self.again else 8, columns, False
        return b"\x1b[%d;0;%dt" % (kind, columns)

    def __enter__(self) -> Self:
        if not self.active:
            return self
        import termios

        fd = self.source.fileno()
        self.saved = termios.tcgetattr(fd)
        self.raw = raw_modes(fd)
        self.guard = Guard(fd, self.saved, self.raw)
        for number, handler in ((signal.SIGQUIT, self._leave), (signal.SIGCONT, self._continue)):
            self.previous[number] = signal.signal(number, handler)
        termios.tcsetattr(fd, termios.TCSANOW, self.raw)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.saved is not None:
            import termios

            for number, handler in self.previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            with suppress(termios.error):  # a terminal that has hung up need not be restored
                termios.tcsetattr(self.source.fileno(), termios.TCSANOW, self.saved)
        if self.guard is not None:
            self.guard.dismiss()

    def _leave(self, _signal: int, _frame: FrameType | None) -> None:
        """Ctrl-]: interrupt the run as Ctrl-C does, without telling the guest."""
        self.leaving = True
        signal.raise_signal(signal.SIGINT)

    def _continue(self, _signal: int, _frame: FrameType | None) -> None:
        """Set the terminal up again: while the emulator was suspended another program used it."""
        import termios

        termios.tcsetattr(self.source.fileno(), termios.TCSANOW, self.raw)
        self.again = True

    def interrupt(self, send_break: Callable[[], bool]) -> bool:
        """Answer a Ctrl-C between two instructions of the guest: True if it is the guest's, False ends the run."""
        now = time.monotonic()
        self.presses.append(now)
        many = len(self.presses) == PRESSES and now - self.presses[0] <= PRESSES_SECONDS
        return self.active and not self.leaving and not many and send_break()


def raw_modes(fd: int) -> Modes:
    """Return the modes of a terminal that hands on each key except Ctrl-C and Ctrl-], which are signals."""
    import termios

    raw = termios.tcgetattr(fd)
    raw[3] = raw[3] & ~(termios.ICANON | termios.ECHO | termios.IEXTEN) | termios.ISIG
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    raw[6][termios.VINTR], raw[6][termios.VQUIT] = CTRL_C, CTRL_BRACKET
    return raw


class Guard:
    """A child that restores a terminal when this process ends without having done so itself."""

    def __init__(self, fd: int, saved: Modes, raw: Modes) -> None:
        ours, self.pipe = os.pipe()
        self.child = os.fork()
        if self.child:
            os.close(ours)
            return
        try:
            os.close(self.pipe)
            watch(ours, fd, saved, raw)
        finally:
            os._exit(0)

    def dismiss(self) -> None:
        """Tell the guard that the terminal has been restored, and wait for its end."""
        with suppress(OSError):
            os.write(self.pipe, DONE)
        os.close(self.pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.child, 0)


def watch(pipe: int, fd: int, saved: Modes, raw: Modes) -> None:
    """Wait for the emulator's end; restore the terminal unless the emulator or another program has set it meanwhile.

    No signal ends or stops the guard: those of the keyboard are sent to it as well.
    """
    import termios

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    # The reader of a pipe that the emulator writes to must see its end.
    low, high = sorted((pipe, fd))
    for first, end in ((0, low), (low + 1, high), (high + 1, FILES)):
        if first < end:  # an empty range would close everything in some versions of Python
            os.closerange(first, end)
    name = os.ttyname(fd)
    if os.read(pipe, 1) == DONE:
        return
    try:
        put_back(fd, saved, raw)
    except termios.error:
        # The emulator was the session's leader, with whose end every descriptor of the terminal becomes useless.
        again = os.open(name, os.O_RDWR | os.O_NOCTTY)
        put_back(again, saved, raw)


def put_back(fd: int, saved: Modes, raw: Modes) -> None:
    """Restore the modes of a terminal if it still is as the emulator has set it; termios.error."""
    import termios

    if termios.tcgetattr(fd) == raw:
        termios.tcsetattr(fd, termios.TCSANOW, saved)
