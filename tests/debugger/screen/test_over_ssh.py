"""The debugger's screen over a real ssh: a server of this host, on its loopback, with keys that are thrown away."""

import contextlib
import getpass
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import host_programs
import pytest
from debugger_terminal import CALLGATE, LIFE, PATIENCE, Terminal

pytestmark = pytest.mark.thorough(only=True)
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[list[str]]:
    """The words that come before a command which is to be carried out through ssh, with a terminal."""
    program, client = host_programs.find("sshd"), host_programs.find("ssh")
    for name in ("host", "user"):
        host_programs.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    port = free_port()
    (tmp_path / "sshd_config").write_text(SERVER.format(port=port, folder=tmp_path))
    with contextlib.suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)  # where the server separates its privileges, if it runs as root
    server = host_programs.start("timeout", str(LIFE), program, "-D", "-e", "-f", tmp_path / "sshd_config")
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None, server.stderr.read() if server.stderr else ""
            assert time.monotonic() < end
            time.sleep(0.05)
        options = (
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={os.devnull}",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
        )
        yield [
            *(client, "-tt", "-F", os.devnull, "-p", str(port), "-i", str(tmp_path / "user")),
            *(word for option in options for word in ("-o", option)),
            f"{getpass.getuser()}@127.0.0.1",
        ]
    finally:
        server.terminate()
        server.wait(PATIENCE)
        if server.stderr:
            server.stderr.close()


def test_the_screen_works_over_ssh_takes_a_new_size_and_leaves_both_terminals_as_they_were(
    terminal: Terminal, ssh: list[str]
) -> None:
    terminal.debug("-c", "df", through=ssh)
    terminal.sees("instruction 0 |")
    terminal.press("p")
    terminal.sees("[take]fill")
    terminal.press(":")
    terminal.press("-l", "goto 5")
    terminal.press("Enter")
    terminal.sees("instruction 5, in the past")
    terminal.escape()
    terminal.tmux("resize-window", "-x", "200", "-y", "60")
    terminal.until(lambda: max(map(len, terminal.shown().splitlines())) > 150)
    terminal.tmux("resize-window", "-x", "60", "-y", "15")
    terminal.sees("needs 80 x 20, this is 60 x 15")
    terminal.tmux("resize-window", "-x", "80", "-y", "24")
    terminal.sees("instruction 5, in the past")
    terminal.press("q")
    assert terminal.left() == 0


def test_ctrl_c_over_ssh_ends_a_run_and_not_the_connection(terminal: Terminal, ssh: list[str]) -> None:
    terminal.debug("-c", "cat PATTERN.BIN; cat PATTERN.BIN; cat PATTERN.BIN", through=ssh)
    terminal.sees("instruction 0 |")
    terminal.press("c")
    terminal.sees("Ctrl-C ends it")
    terminal.press("C-c")
    terminal.until(lambda: "Ctrl-C ends it" not in terminal.shown())
    terminal.press("I")
    terminal.sees("in the past")
    terminal.press("q")
    assert terminal.left() == 0


def test_a_connection_that_breaks_off_ends_the_debugger_of_the_other_side(terminal: Terminal, ssh: list[str]) -> None:
    terminal.debug("-c", "df", through=ssh)
    terminal.sees("instruction 0 |")
    before = debuggers()
    assert before
    terminal.signal(signal.SIGKILL)  # the client, which has replaced its shell
    end = time.monotonic() + PATIENCE
    while before & debuggers():
        assert time.monotonic() < end, "the debugger goes on without a terminal"
        time.sleep(0.1)


def debuggers() -> set[int]:
    """Return the processes that are a debugger of this installation which ssh has started."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            started = b"SSH_CONNECTION=" in (place / "environ").read_bytes()
            if started and bytes(CALLGATE) in (place / "cmdline").read_bytes().split(b"\0")[1:2]:
                found.add(int(place.name))
    return found
