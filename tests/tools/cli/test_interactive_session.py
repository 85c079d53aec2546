"""An interactive session on a pseudo-terminal: Ctrl-C, the ways to leave, and the state of the terminal afterwards."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from forked import Forked

CTRL_C, CTRL_BRACKET = b"\x03", b"\x1d"
PROMPT = b"/d0p1> "
LEFT = (
    rb"callgate: %s after \d+ instructions, \d+\.\d{3} ms of virtual time; shell \(process \d+\) waits for input\r?\n"
)
SECONDS = 60.0


@dataclass
class Session:
    """`callgate boot` with a terminal of its own."""

    process: Forked
    terminal: int
    modes: list[object]
    unread: bytearray = field(default_factory=bytearray)

    def read(self, *ends: bytes) -> bytes:
        """Return what is printed up to one of `ends`."""
        limit = time.monotonic() + SECONDS
        while not any(end in self.unread for end in ends):
            ready, _, _ = select.select([self.terminal], [], [], limit - time.monotonic())
            assert ready, (ends, bytes(self.unread))
            self.unread += os.read(self.terminal, 4096)
        size = min(self.unread.index(end) + len(end) for end in ends if end in self.unread)
        text, self.unread = bytes(self.unread[:size]), self.unread[size:]
        return text

    def type(self, keys: bytes, *ends: bytes) -> bytes:
        """Type keys, return what is printed up to one of `ends`, the prompt if there are none."""
        os.write(self.terminal, keys)
        return self.read(*(ends or (PROMPT,)))

    def wait_for(self, modes: list[object]) -> None:
        """Wait until the terminal has these modes."""
        limit = time.monotonic() + SECONDS
        while termios.tcgetattr(self.terminal) != modes:
            assert time.monotonic() < limit
            time.sleep(0.01)

    def wait_for_stop(self) -> None:
        """Wait until the process is stopped."""
        limit = time.monotonic() + SECONDS
        while ") T " not in Path(f"/proc/{self.process.pid}/stat").read_text():
            assert time.monotonic() < limit
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the history in a temporary folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    """Start sessions: `start("--no-history", columns=40)`."""
    with ExitStack() as ends:

        def make(*arguments: str, columns: int = 0) -> Session:
            terminal, side = pty.openpty()
            if columns:
                termios.tcsetwinsize(side, (24, columns))
            modes = termios.tcgetattr(side)
            streams = {"stdin": side, "stdout": side, "stderr": side}
            process = Forked("boot", *arguments, terminal=True, **streams)
            for end in (lambda: os.close(side), lambda: os.close(terminal), process.wait, process.kill):
                ends.callback(end)
            return Session(process, terminal, modes)

        yield make


@pytest.fixture
def session(start: Callable[..., Session]) -> Session:
    return start()


def test_ctrl_c_is_passed_to_the_guest(session: Session) -> None:
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


def test_ctrl_bracket_ends_the_session(session: Session) -> None:
    session.read(PROMPT)
    left = session.type(CTRL_BRACKET, b"waits for input\r\n")
    assert re.search(LEFT % b"interrupted", left)
    assert session.process.wait(SECONDS) == 130
    assert termios.tcgetattr(session.terminal) == session.modes


def test_a_session_that_is_resumed_has_its_terminal_as_before_the_suspension(session: Session) -> None:
    session.read(PROMPT)
    raw = termios.tcgetattr(session.terminal)
    assert raw != session.modes
    session.process.send_signal(signal.SIGSTOP)
    session.wait_for_stop()
    termios.tcsetattr(session.terminal, termios.TCSANOW, session.modes)
    session.process.send_signal(signal.SIGCONT)
    session.wait_for(raw)
    session.read(b"\r\x1b[K" + PROMPT)
    assert session.type(b"echo back\r") == b"echo back\r\nback\r\n" + PROMPT


def test_the_third_ctrl_c_within_a_second_ends_the_session(session: Session) -> None:
    """On a busy host the first of three may have been longer ago; then the session has to go on."""
    session.read(PROMPT)
    pressed: list[tuple[float, float]] = []  # each between these two times
    left = False
    while not left:
        before = time.monotonic()
        left = session.type(CTRL_C, PROMPT, b"\r\ncallgate: interrupted after ").endswith(b"after ")
        pressed.append((before, time.monotonic()))
        assert left or len(pressed) < 3 or pressed[-1][1] - pressed[-3][0] > 1
    assert len(pressed) >= 3
    assert pressed[-1][0] - pressed[-3][1] <= 1
    assert session.process.wait(SECONDS) == 130


def test_without_a_terminal_an_interrupt_ends_the_emulator() -> None:
    process = Forked("boot", "-q", stdin=subprocess.PIPE)
    process.stdin.write(b"echo ready\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.startswith(b"callgate: interrupted after ")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_session_puts_the_terminal_back(session: Session, number: signal.Signals) -> None:
    session.read(PROMPT)
    assert termios.tcgetattr(session.terminal) != session.modes
    session.process.send_signal(number)
    assert re.search(LEFT % f"ended by {number.name}".encode(), session.read(b"waits for input\r\n"))
    assert session.process.wait(SECONDS) == -number
    assert termios.tcgetattr(session.terminal) == session.modes


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_an_immediate_end_of_the_session_does_not_leave_the_terminal_raw(
    session: Session, number: signal.Signals
) -> None:
    session.read(PROMPT)
    session.process.send_signal(number)
    assert session.process.wait(SECONDS) == -number
    session.wait_for(session.modes)


def test_the_terminal_guard_does_not_change_a_terminal_that_another_program_has_set(session: Session) -> None:
    session.read(PROMPT)
    modes = termios.tcgetattr(session.terminal)
    modes[3] |= termios.ECHO
    termios.tcsetattr(session.terminal, termios.TCSANOW, modes)
    (guard,) = Path(f"/proc/{session.process.pid}/task/{session.process.pid}/children").read_text().split()
    session.process.kill()
    session.process.wait()
    limit = time.monotonic() + SECONDS
    while Path(f"/proc/{guard}/fd").exists() and list(Path(f"/proc/{guard}/fd").iterdir()):
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert termios.tcgetattr(session.terminal) == modes


def test_reports_are_written_when_a_signal_ends_a_run(tmp_path: Path) -> None:
    stats, trace = tmp_path / "stats.json", tmp_path / "trace.txt"
    process = Forked("boot", "-q", "--stats", stats, "--trace", trace, stdin=subprocess.PIPE)
    process.stdin.write(b"echo ready\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == -signal.SIGTERM
    _, errors = process.communicate()
    assert errors.startswith(b"callgate: ended by SIGTERM after ")
    assert "guest_instructions" in json.loads(stats.read_text())
    assert trace.read_text().endswith("\n")


@pytest.mark.parametrize("second", [False, True])
def test_a_run_that_does_not_end_is_ended_by_the_signal(second: bool) -> None:
    grace = "30" if second else "0.1"
    source = f"""
import os, signal, threading
from callgate.tools.session import ending
ending.GRACE = {grace}
asked = threading.Event()
with ending.Ending(asked.set):
    os.kill(os.getpid(), signal.SIGTERM)
    asked.wait()
    if {second}:
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(60)
"""
    done = subprocess.run([sys.executable, "-c", source], timeout=SECONDS, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, b"")


def test_a_signal_that_is_taken_only_after_the_run_has_ended_by_itself_is_not_lost() -> None:
    source = """
import os, signal
from callgate.tools.session import ending
taken, run = signal.sigwaitinfo, ending.Ending(lambda: print("asked"))
def late(signals):
    found = taken(signals)
    run.done.wait()
    return found
signal.sigwaitinfo = late
with run:
    os.kill(os.getpid(), signal.SIGTERM)
    while signal.SIGTERM in signal.sigpending():
        pass
run.take_effect()
"""
    done = subprocess.run([sys.executable, "-c", source], timeout=SECONDS, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, b"", b"")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    source = """
import os, signal
from callgate.tools.session.ending import Ending
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Ending(lambda: print("asked")) as ending:
    os.kill(os.getpid(), signal.SIGHUP)
    assert ending.signals == {signal.SIGTERM}
print("done")
"""
    done = subprocess.run([sys.executable, "-c", source], timeout=SECONDS, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_history_lines_are_kept_across_boots_and_overlapping_sessions(
    start: Callable[..., Session], state: Path
) -> None:
    file = state / "callgate" / "history"
    sessions = [start(), start("--history", str(file))]
    for session, command in zip(sessions, (b"echo one", b"echo two"), strict=True):
        session.read(PROMPT)
        session.type(command + b"\r")
        session.type(command + b"\r")
    for session in sessions:
        session.type(CTRL_BRACKET, b"waits for input\r\n")
        session.process.wait(SECONDS)
    assert file.read_bytes() == b"# callgate history\necho one\necho two\n"
    assert file.stat().st_mode & 0o777 == 0o600
    later = start()
    later.read(PROMPT)
    later.type(b"\x1b[A\x1b[A\r", b"echo one\r\none\r\n" + PROMPT)
    later.type(b"\x12tw\r", b"echo two\r\ntwo\r\n" + PROMPT)


@pytest.mark.parametrize("content", [b"my notes\n", b"# callgate\n"])
def test_a_file_that_is_not_a_history_is_neither_read_nor_written(
    start: Callable[..., Session], tmp_path: Path, content: bytes
) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(content)
    session = start("--history", str(notes))
    session.read(b"already exists, and is not a history of callgate; name another file\r\n")
    assert session.process.wait(SECONDS) == 2
    assert notes.read_bytes() == content


def test_the_line_editor_follows_the_width_of_the_terminal(start: Callable[..., Session]) -> None:
    session = start("--no-history", columns=40)
    session.read(PROMPT)
    session.type(b"echo " + b"x" * 60 + b"\x01", b"\x1b[1A\r\x1b[7C")
    termios.tcsetwinsize(session.terminal, (24, 30))
    session.process.send_signal(signal.SIGWINCH)
    session.read(b"\x1b[2A\r\x1b[7C")
