"""`callgate boot --gdb`: where gdb connects, and what is refused."""

import os
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from forked import PIPE, Forked


def test_the_session_on_a_pipe_has_the_console_on_standard_error() -> None:
    with Forked("boot", "-q", "-c", "dir", "--gdb", "-", stdin=PIPE) as process:
        process.stdin.write(b"$?#3f$vCont;c#a8")
        process.stdin.flush()
        answers = b""
        while b"$W00#b7" not in answers:
            answers += os.read(process.stdout.fileno(), 4096)
        _, messages = process.communicate(timeout=60)
    assert re.match(rb"\+\$T05.*#\w\w\+\$W00#b7", answers)
    assert b"README.TXT" in messages
    assert process.returncode == 0


@pytest.mark.parametrize("address", ["70000", "port", "host:", "::1:2:3:x", ""])
def test_an_address_that_is_none_is_a_usage_error_that_says_what_is_wanted(
    command_line: Callable[..., Any], address: str
) -> None:
    outcome = command_line("boot", "--gdb", address)
    assert outcome.status == 2
    assert "is not [HOST:]PORT" in outcome.messages


def test_a_port_in_use_is_a_usage_error_that_says_what_to_do(command_line: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = command_line("boot", "--gdb", str(taken.getsockname()[1]))
    assert outcome.status == 2
    assert "Address already in use; name another port, or 0 for any" in outcome.messages


def test_options_that_gdb_excludes_are_refused(command_line: Callable[..., Any]) -> None:
    for options in (["--fuel", "1"], ["--trace", "-"]):
        assert command_line("boot", "--gdb", "-", *options).status == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gdb", "0", "--history-budget", "1M"], "a history needs at least 8M"),
        (["--history-budget", "64M"], "give --gdb [HOST:]PORT as well"),
    ],
)
def test_a_history_that_is_too_small_or_for_no_debugger_is_refused(
    command_line: Callable[..., Any], options: list[str], said: str
) -> None:
    outcome = command_line("boot", *options)
    assert outcome.status == 2
    assert said in outcome.messages


def test_gdb_and_the_console_of_a_guest_that_waits_for_input_do_not_disturb_each_other() -> None:
    with Forked("boot", "-q", "--gdb", "0", stdin=PIPE) as process:
        port = int(re.search(rb":(\d+)`", process.stderr.readline())[1])  # type: ignore[index]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            link.sendall(b"$QStartNoAckMode#b0$vCont;c#a8")
            process.stdin.write(b"echo one\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"one\n"
            link.sendall(b"\x03")  # the shell waits for input, and the machine for the console
            assert wait_for(link, b"$T02")
            link.sendall(b"$D#44")
            assert wait_for(link, b"$OK#9a")
            process.stdin.write(b"echo two\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"two\n"
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stderr.read().splitlines()[-1] == b"callgate: gdb: detached; the machine goes on"


def wait_for(link: socket.socket, wanted: bytes) -> bool:
    """Read until something has come."""
    data = b""
    while wanted not in data:
        piece = link.recv(4096)
        if not piece:
            return False
        data += piece
    return True


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("running", [True, False])
def test_a_signal_ends_a_session_with_gdb_as_it_does_without(running: bool) -> None:
    with Forked("boot", "-q", "--gdb", "0", stdin=PIPE) as process:
        port = int(re.search(rb":(\d+)`", process.stderr.readline())[1])  # type: ignore[index]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            link.sendall(b"$QStartNoAckMode#b0")
            assert wait_for(link, b"$OK#9a")
            if running:
                link.sendall(b"$vCont;c#a8")
                process.stdin.write(b"echo one\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"one\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
            assert b"\ncallgate: ended by SIGTERM after" in process.stderr.read(), "not by the last resort"
