"""A terminal that is not ours, in which the debugger runs: tmux shows it, takes keys, and tells how it was left."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import host_programs

CALLGATE = Path(sys.executable).parent / "callgate"
PATIENCE = 60  # seconds, which only a failure reaches
LIFE = 900  # seconds, the longest that a terminal stays
STATE = "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"


class Terminal:
    """A terminal of tmux, with a shell that runs the debugger and writes down how it was left."""

    def __init__(self, folder: Path) -> None:
        """Use files of a folder; its path must be short enough for a socket."""
        self.folder = folder
        os.mkfifo(
            folder / "alive"
        )  # whose other end is read by what ends the terminal, if the test's process ends first
        self.alive = os.open(folder / "alive", os.O_RDWR)
        self.options = ("-u", "-S", str(folder / "socket"), "-f", os.devnull)

    def tmux(self, *arguments: str) -> str:
        return host_programs.run("tmux", *self.options, *arguments, TERM="xterm-256color", SHELL="/bin/sh")

    def debug(
        self, *arguments: str, size: tuple[int, int] = (80, 24), through: Sequence[str] = (), **environment: str
    ) -> None:
        """Start `callgate debug ARGUMENTS`: by the words of `through`, if there are any, with it as one more word."""
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        variables = {"TERM": "xterm-256color", "XDG_CACHE_HOME": cache} | environment
        words = ["env", *(f"{name}={value}" for name, value in variables.items()), str(CALLGATE), "debug", *arguments]
        inner = f"echo $$ >pid; exec {shlex.join([*through, shlex.join(words)] if through else words)}"
        end = shlex.join(["tmux", *self.options, "kill-server"])
        script = (
            f"cd {shlex.quote(str(self.folder))}; (timeout {LIFE} cat alive; {end}) </dev/null >/dev/null 2>&1 & "
            f"stty -g >before; sh -c {shlex.quote(inner)}; echo $? >status; "
            "for _ in $(seq 100); do stty -g >after; cmp -s before after && break; sleep 0.1; done; "
            "echo left >done; sleep 600"
        )
        self.tmux("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), script)

    def close(self) -> None:
        """End the terminal, and what runs in it."""
        if (self.folder / "socket").exists():
            with contextlib.suppress(AssertionError):  # it has just ended by itself
                self.tmux("kill-server")
        self.abandon()

    def abandon(self) -> None:
        """Do what the end of this process does."""
        if self.alive >= 0:
            os.close(self.alive)
        self.alive = -1

    def press(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        self.tmux("send-keys", *keys)

    def escape(self) -> None:
        """Leave the command line by Esc, and wait for its other colour: Esc and a key at once would be another key."""
        row = self._command_line()
        self.press("Escape")
        self.until(lambda: self._command_line() != row)

    def _command_line(self) -> str:
        """Return the last row but one, with its colours."""
        return self.shown("-e").splitlines()[-2]

    def click(self, column: int, row: int) -> None:
        """Press and release the first button of a mouse, counted from 0, as xterm's SGR mode 1006 says it."""
        for end in "Mm":
            self.tmux("send-keys", "-l", f"\x1b[<0;{column + 1};{row + 1}{end}")

    def mouse_is_wanted(self) -> bool:
        """Tell whether the debugger has asked the terminal for what the mouse does, in SGR mode."""
        return self.tmux("display", "-p", "#{mouse_any_flag} #{mouse_sgr_flag}").split() == ["1", "1"]

    def shown(self, *options: str) -> str:
        """Return what is on the screen."""
        return self.tmux("capture-pane", "-p", *options)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.shown()
            time.sleep(0.02)

    def sees(self, text: str) -> None:
        """Wait for a text."""
        self.until(lambda: text in self.shown())

    def left(self) -> int:
        """Wait for the debugger's end; return its status after looking at how it has left the terminal."""
        self.until((self.folder / "done").exists)
        assert (self.folder / "after").read_text() == (self.folder / "before").read_text()
        assert self.tmux("display", "-p", STATE).split() == ["0", "0", "1"]
        return int((self.folder / "status").read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send the debugger a signal."""
        os.kill(int((self.folder / "pid").read_text()), number)
