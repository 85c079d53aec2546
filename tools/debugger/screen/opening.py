"""Opening the screen, and putting the terminal back however it ends."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from callgate.tools.session.ending import Ending

if TYPE_CHECKING:
    from callgate.tools.debugger.screen.app import DebuggerApp
    from callgate.tools.debugger.workbench.workbench import Workbench
    from callgate.tools.session.terminal import Modes

LEAVE: Final = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m"
)
"""No mouse, no reports of focus, no brackets around what is pasted, plain keys, the first screen, a cursor (xterm)."""
DONE: Final = b"."
FILES: Final = 1024  # descriptors that the debugger may have open


def unusable() -> str:
    """Return why the terminal cannot show a screen; "" if it can."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual draws on the last
        return "standard input, output and error are not a terminal"
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return "the terminal is a dumb one"
    return ""


def open_screen(app: DebuggerApp) -> int:
    """Show the screen until it is left; return the signal that has ended it, 0 for none.

    What the worker did not expect is raised when the terminal has been restored.
    """
    ending = Ending(lambda: app.call_from_thread(app.exit) if app.is_running else None)
    with Guard(), ending:
        app.run()
    if app.failure is not None:
        raise app.failure
    ending.take_effect()
    return ending.number


def made(bench: Workbench, title: str) -> DebuggerApp:
    """Return a screen; ImportError where Textual cannot be used."""
    from callgate.tools.debugger.screen.app import DebuggerApp

    return DebuggerApp(bench, title)


class Guard:
    """A child that restores the terminal if this process ends without having done so: it is killed, or aborts.

    It is made before any thread is, and waits for the end of a pipe whose other end only this process holds.
    """

    def __enter__(self) -> Self:
        import termios

        fd = sys.stdin.fileno()
        saved = termios.tcgetattr(fd)
        ours, self.pipe = os.pipe()
        self.child = os.fork()
        if not self.child:
            try:
                os.close(self.pipe)
                watch(ours, fd, saved)
            finally:
                os._exit(0)
        os.close(ours)
        return self

    def __exit__(self, *_exception: object) -> None:
        with suppress(OSError):
            os.write(self.pipe, DONE)
        os.close(self.pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.child, 0)


def watch(pipe: int, fd: int, saved: Modes) -> None:
    """Wait for the debugger's end; restore the terminal unless that has been done, or another program has it by now.

    No signal ends or stops the guard: those of the keyboard are sent to it as well.
    """
    import termios

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    low, high = sorted((pipe, fd))
    for first, end in ((0, low), (low + 1, high), (high + 1, FILES)):
        if first < end:
            os.closerange(first, end)
    name = os.ttyname(fd)
    if os.read(pipe, 1) == DONE:
        return
    try:
        modes = termios.tcgetattr(fd)
    except termios.error:  # the debugger led the session, with whose end the terminal's descriptors become useless
        fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
        modes = termios.tcgetattr(fd)
    if not modes[3] & termios.ISIG:  # Textual's modes: a shell's leave signals on
        termios.tcsetattr(fd, termios.TCSANOW, saved)
        os.write(fd, LEAVE)
