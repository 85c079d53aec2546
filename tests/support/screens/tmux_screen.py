"""A terminal that is not ours: tmux, which shows the bytes written to it, and reports its cursor."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import host_programs

ROWS = 60
PATIENCE = 60  # seconds, which only a failure reaches


class TmuxScreen:
    """A screen of `width` columns and many rows, as tmux takes what is written to it."""

    def __init__(self, folder: Path, width: int) -> None:
        folder.mkdir()
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        self._options = ("-u", "-S", str(folder / "socket"), "-f", os.devnull)
        self._marks = 0
        self._run("new-session", "-d", "-x", str(width), "-y", str(ROWS), f"stty -echo; exec cat '{fifo}'")
        self._pipe = fifo.open("wb", buffering=0)

    def _run(self, *arguments: str) -> str:
        return host_programs.run("tmux", *self._options, *arguments, TERM="xterm", SHELL="/bin/sh")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # its only reader ends, and so does tmux

    def write(self, data: bytes) -> None:
        """Show bytes."""
        self._pipe.write(data)

    def _settle(self) -> None:
        """Wait until all that was written has been shown: the pane's title, written last, says so."""
        self._marks += 1
        self._pipe.write(f"\x1b]2;mark {self._marks}\a".encode())
        end = time.monotonic() + PATIENCE
        while self._run("display", "-p", "#{pane_title}").strip() != f"mark {self._marks}":
            assert time.monotonic() < end, "tmux does not answer"
            time.sleep(0.001)

    def rows(self) -> list[str]:
        """Return the rows from the top on, without blanks at their ends."""
        self._settle()
        return [row.rstrip() for row in self._run("capture-pane", "-p").split("\n")]

    def cursor(self) -> tuple[int, int]:
        """Return the cursor's column and row; after the last column of a row, the width is the column."""
        column, row = self._run("display", "-p", "#{cursor_x} #{cursor_y}").split()
        return int(column), int(row)
