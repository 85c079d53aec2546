"""The lines of interactive sessions, kept between boots in a file of the host.

The file begins with a line that identifies it, so that no other file is taken for one and overwritten; then come
the lines, oldest first, in UTF-8.  Sessions that overlap lose nothing: new lines are appended to the file as it is
then.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.kernel.programs.images import program_image

if TYPE_CHECKING:
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System

HEAD: Final = b"# callgate history"
LIMIT: Final = 500  # lines
LINE_LIMIT: Final = 511  # bytes of a line, as the shell has it
FILE_LIMIT: Final = 1 << 20  # bytes of a file that are read: more than its lines can have


class HistoryError(Exception):
    """A file that cannot be the history: its name, the reason, and the remedy."""


def default_path() -> Path:
    """Return where the history is kept unless --history says otherwise (XDG Base Directory Specification).

    HistoryError where there is no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise HistoryError("there is no home directory; set XDG_STATE_HOME, or name a file with --history") from None
    return base / "callgate" / "history"


class History:
    """Earlier lines, and those of this session."""

    def __init__(self, path: Path) -> None:
        """Read a history; HistoryError if the file is not a history, or cannot be read."""
        self.path = path
        self.earlier = self._read()
        self.new: list[bytes] = []

    def _read(self) -> list[bytes]:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise HistoryError(f"{self.path}: is not a regular file; name one, or give --no-history")
            with self.path.open("rb") as file:
                data = file.read(FILE_LIMIT)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HistoryError(f"{self.path}: cannot be read: {error.strerror}") from None
        if data and not data.startswith(HEAD + b"\n"):
            raise HistoryError(f"{self.path}: already exists, and is not a history of callgate; name another file")
        return [line for line in data.split(b"\n")[1:] if 0 < len(line) <= LINE_LIMIT][-LIMIT:]

    @property
    def text(self) -> bytes:
        """The earlier lines, as the guest's shell reads them."""
        return b"".join(line + b"\n" for line in self.earlier)

    def add(self, line: bytes) -> None:
        """Add a line of this session, unless it is empty or the same as the last one."""
        last = (self.new or self.earlier or [b""])[-1]
        if line and line != last and b"\n" not in line:
            self.new.append(line)

    def save(self) -> None:
        """Add this session's lines to the file; HistoryError if that is impossible."""
        if not self.new:
            return
        lines = [*self._read(), *self.new][-LIMIT:]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace(self.path.resolve(), [HEAD, *lines])
        except OSError as error:
            raise HistoryError(f"{self.path}: cannot be written: {error.strerror}; the lines are lost") from None


def watch(system: System, history: History) -> None:
    """Add every line that is typed at the shell's prompt from now on."""
    address = program_image("shell").address("line")

    def typed(event: Event) -> None:
        process = system.kernel.scheduler.current.process
        length = event.fields["length"]
        assert isinstance(length, int)
        history.add(system.kernel.processes.memory_of(process).read(address, min(length, LINE_LIMIT)))

    system.machine.stream.subscribe(typed, kinds=["shell.line"])


def replace(path: Path, lines: Sequence[bytes]) -> None:
    """Write a file anew, whole or not at all; only its owner may read it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".history-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
