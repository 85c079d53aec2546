"""A process of the forking server (`forked.py`) is one like a start of the installed `callgate`."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

CALLGATE = Path(sys.executable).with_name("callgate")
SIGNALS = ("SigIgn", "SigCgt", "SigBlk", "SigPnd", "Umask")
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
INITIALIZE = json.dumps({"seq": 1, "type": "request", "command": "initialize"}).encode()


def status_of(folder: Path) -> dict[str, str]:
    """Return what /proc says of a process that has come to rest: it sleeps, and is what it was 20 ms before."""
    before: dict[str, str] = {}
    for _ in range(2500):
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        if "sleeping" in status["State"] and status == before:
            break
        before = status
        time.sleep(0.02)
    return status


def looked_at(number: int) -> dict[str, object]:
    """Return what /proc says of what a process has from its start; it waits for input, or is about to."""
    folder = Path(f"/proc/{number}")
    status = status_of(folder)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return {
        **{name: status[name] for name in SIGNALS},
        "descriptors": {path.name: str(path.readlink()).partition(":")[0] for path in (folder / "fd").iterdir()},
        "folder": (folder / "cwd").readlink(),
        "limits": (folder / "limits").read_text(),
        "leads its group, its session": (fields[2] == str(number), fields[3] == str(number)),
        "terminal": fields[4],
    }


def piped(start: Callable[..., Any], arguments: list[str], keys: bytes, end: bytes) -> list[object]:
    """Return what a process that was given `keys` by a pipe has printed up to `end`, what it is, and how it ends."""
    with start(*arguments, **PIPES) as process:
        process.stdin.write(keys)
        process.stdin.flush()
        printed = b""
        while end not in printed:
            printed += os.read(process.stdout.fileno(), 4096)
        found = looked_at(process.pid)
        process.send_signal(signal.SIGINT)
        return [printed, found, *process.communicate(), process.returncode]


def installed(*arguments: str, **streams: Any) -> "subprocess.Popen[bytes]":
    """Start the installed command."""
    return subprocess.Popen([CALLGATE, *arguments], **streams)


@pytest.mark.parametrize(
    ("arguments", "keys", "end"),
    [
        (["boot", "-q"], b"echo ready\n", b"ready\n"),
        (["debug", "--dap"], b"Content-Length: %d\r\n\r\n%s" % (len(INITIALIZE), INITIALIZE), b"}}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_forked_command_with_pipes_is_a_process_like_one_that_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], keys: bytes, end: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    of_server, of_host = (piped(start, arguments, keys, end) for start in (Forked, installed))
    assert of_server == of_host


@contextmanager
def on_a_terminal(start: Callable[..., Any]) -> Iterator[tuple[Any, int]]:
    terminal, side = pty.openpty()
    try:
        with start("boot", stdin=side, stdout=side, stderr=side) as process:
            os.close(side)
            yield process, terminal
    finally:
        os.close(terminal)


def lead() -> None:
    """Lead a session whose controlling terminal is standard input."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def typed(start: Callable[..., Any]) -> list[object]:
    """Return what a session on a terminal prints, what it is, how it ends, and the terminal's modes both times."""
    with on_a_terminal(start) as (process, terminal):
        printed = b""
        while not printed.endswith(b"/d0p1> "):
            printed += os.read(terminal, 4096)
        found, modes = looked_at(process.pid), termios.tcgetattr(terminal)
        os.write(terminal, b"exit 3\r")
        status = process.wait(60)
        return [printed, {**found, "terminal": found["terminal"] != "0"}, modes, status, termios.tcgetattr(terminal)]


def test_a_forked_command_on_a_terminal_is_a_session_like_one_that_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def forked(*arguments: str, **streams: int) -> Forked:
        return Forked(*arguments, terminal=True, **streams)

    def started(*arguments: str, **streams: int) -> "subprocess.Popen[bytes]":
        # No threads here, and nothing else makes the pseudo-terminal the controlling one.
        return subprocess.Popen([CALLGATE, *arguments], preexec_fn=lead, **streams)  # noqa: PLW1509

    assert typed(forked) == typed(started)


def test_a_forked_command_has_the_environment_and_the_folder_of_its_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.asm").write_text("start: nop\n bad\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    with Forked("asm", "a.asm") as bad, Forked("boot", "--help") as helped:
        assert b"a.asm:2:" in bad.communicate()[1]
        printed = helped.communicate()[0].decode()
    assert (bad.returncode, helped.returncode) == (1, 0)
    assert 50 < max(len(line) for line in printed.partition("Examples")[0].splitlines()) <= 60
