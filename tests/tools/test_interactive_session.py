"""An interactive session on a pseudo-terminal: who gets Ctrl-C, how one leaves, and what the terminal is like after."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

COMMAND = [sys.executable, "-c", "from callgate.tools.cli import main; main()", "boot"]
CTRL_C, CTRL_BRACKET = b"\x03", b"\x1d"
PROMPT = b"/d0p1> "
SECONDS = 60.0


@dataclass
class Session:
    """`callgate boot` with a terminal of its own."""

    process: subprocess.Popen[bytes]
    terminal: int
    modes: list[object]
    unread: bytearray = field(default_factory=bytearray)

    def read(self, end: bytes) -> bytes:
        """Return what is printed up to `end`."""
        limit = time.monotonic() + SECONDS
        while end not in self.unread:
            ready, _, _ = select.select([self.terminal], [], [], limit - time.monotonic())
            assert ready, (end, bytes(self.unread))
            self.unread += os.read(self.terminal, 4096)
        size = self.unread.index(end) + len(end)
        text, self.unread = bytes(self.unread[:size]), self.unread[size:]
        return text

    def type(self, keys: bytes, end: bytes = PROMPT) -> bytes:
        """Type keys, return what is printed up to `end`."""
        os.write(self.terminal, keys)
        return self.read(end)


@pytest.fixture
def session() -> Iterator[Session]:
    terminal, side = pty.openpty()
    modes = termios.tcgetattr(side)
    process = subprocess.Popen(COMMAND, stdin=side, stdout=side, stderr=side, preexec_fn=become_foreground)  # noqa: PLW1509 - no threads here, and nothing else makes the pseudo-terminal the controlling one
    yield Session(process, terminal, modes)
    process.kill()
    process.wait()
    os.close(terminal)
    os.close(side)


def become_foreground() -> None:
    """Make standard input the controlling terminal, so that its keys become signals."""
    import fcntl

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_c_belongs_to_the_guest(session: Session) -> None:
    start = session.read(PROMPT)
    assert b"callgate: Ctrl-C ends what runs in the guest; Ctrl-], or Ctrl-C three times, leaves callgate\r\n" in start
    assert session.type(b"cat READ" + CTRL_C).endswith(b"^C\r\n" + PROMPT)
    session.type(b"cat PATTERN.BIN PATTERN.BIN PATTERN.BIN; echo ne''ver\r", b"\x01\x00\x00\x00")
    stopped = session.type(CTRL_C, b"^C\r\n" + PROMPT)
    assert b"never" not in stopped
    assert len(stopped) < 9 << 20
    assert session.type(b"echo $?\r") == b"echo $?\r\n130\r\n" + PROMPT
    session.type(b"exit 7\r", b"\n")
    assert session.process.wait(SECONDS) == 7
    assert termios.tcgetattr(session.terminal) == session.modes


def test_ctrl_bracket_leaves(session: Session) -> None:
    session.read(PROMPT)
    session.type(CTRL_BRACKET, b"callgate: interrupted\r\n")
    assert session.process.wait(SECONDS) == 130
    assert termios.tcgetattr(session.terminal) == session.modes


def test_a_suspended_session_finds_its_terminal_as_it_left_it(session: Session) -> None:
    session.read(PROMPT)
    raw = termios.tcgetattr(session.terminal)
    assert raw != session.modes
    session.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, session.process.pid, os.WSTOPPED | os.WNOWAIT)
    termios.tcsetattr(session.terminal, termios.TCSANOW, session.modes)
    session.process.send_signal(signal.SIGCONT)
    limit = time.monotonic() + SECONDS
    while termios.tcgetattr(session.terminal) != raw:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert session.type(b"echo back\r") == b"echo back\r\nback\r\n" + PROMPT


def test_the_third_ctrl_c_within_a_second_leaves(session: Session) -> None:
    session.read(PROMPT)
    session.type(CTRL_C)
    session.type(CTRL_C)
    session.type(CTRL_C, b"callgate: interrupted\r\n")
    assert session.process.wait(SECONDS) == 130


def test_without_a_terminal_an_interrupt_ends_the_emulator() -> None:
    process = subprocess.Popen([*COMMAND, "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"echo ready\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (130, b"callgate: interrupted\n")
