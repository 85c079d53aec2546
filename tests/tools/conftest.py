"""The command line, run in this process: the output of a subprocess in a fraction of the time."""

import contextlib
import gc
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from callgate.tools.cli.main import main
from forked import Forked

TIMEOUT = 100
# `callgate WORDS`, after a line that sets a scene or gives input, before a file that does.
OF_CALLGATE = re.compile(r"(?:(.*?) ?([|;]) )?callgate (.*?)(?: < (\S+))?")


@dataclass(frozen=True)
class Outcome:
    """The output of a command and its exit code; `terminal` is both streams in the order of writing."""

    stdout: bytes
    stderr: bytes
    status: int
    terminal: bytes = b""

    @property
    def messages(self) -> str:
        """Standard error as text."""
        return self.stderr.decode()


class Stream(io.BytesIO):
    """A stream that also writes to the terminal that both streams share."""

    def __init__(self, terminal: io.BytesIO) -> None:
        super().__init__()
        self.terminal = terminal

    def write(self, data: object) -> int:
        self.terminal.write(data)  # type: ignore[arg-type]  # a buffer, as for the base class
        return super().write(data)  # type: ignore[arg-type]


def run_callgate(*arguments: str | Path) -> Outcome:
    """Run `callgate ARGUMENTS` with an empty standard input."""
    terminal = io.BytesIO()
    streams = Stream(terminal), Stream(terminal)
    out, error = (io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in streams)
    saved, thresholds = (sys.argv, sys.stdin), gc.get_threshold()
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        sys.argv, sys.stdin = ["callgate", *map(str, arguments)], nothing
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), pytest.raises(SystemExit) as end:
                main()
        finally:
            sys.argv, sys.stdin = saved
            gc.set_threshold(*thresholds)  # `main` sets those of a process of its own
    return Outcome(streams[0].getvalue(), streams[1].getvalue(), int(end.value.code or 0), terminal.getvalue())


def run_line(line: str) -> Outcome:
    """Run a line of a transcript: callgate here, or forked if it gets input, and anything else by the shell."""
    found = OF_CALLGATE.fullmatch(line)
    before, link, ours, source = found.groups("") if found else ("", "", "", "")
    words = shlex.split(ours)
    if not words or {"|", "<", ">", "&&", ";"} & set(words):
        return run_in_shell(line)
    if link:
        first = run_in_shell(before)
        assert (first.stderr, first.status) == (b"", 0), before
        if link == "|":
            return outcome(Forked(*words, stdin=subprocess.PIPE), first.stdout)
        assert first.stdout == b"", before
    if source:
        with Path(source).open("rb") as file:
            return outcome(Forked(*words, stdin=file.fileno()))
    return run_callgate(*words)


def outcome(process: Forked, data: bytes = b"") -> Outcome:
    """Give a process its input, and let it end."""
    with process:
        output, errors = process.communicate(data)
    return Outcome(output, errors, process.wait(), output + errors)


def run_in_shell(line: str) -> Outcome:
    """Run a line by the shell of the host."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["sh", "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        env={**os.environ, "PATH": path},
        check=False,
    )
    return Outcome(done.stdout, done.stderr, done.returncode, done.stdout + done.stderr)


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run `callgate` in an empty directory: `command_line("boot", "a.img", "-c", "dir")`."""
    place(monkeypatch, tmp_path)
    return run_callgate


@pytest.fixture
def host_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Outcome]:
    """Run a line as a user types it, in an empty directory."""
    place(monkeypatch, tmp_path)
    return run_line


def place(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Go to a directory and fix what output depends on: width, colour, language, time zone."""
    monkeypatch.chdir(directory)
    for name, value in {"COLUMNS": "80", "LC_ALL": "C.UTF-8", "TZ": "UTC", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
