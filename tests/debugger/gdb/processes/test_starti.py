"""`starti` while gdb knows several inferiors; what takes long is done while gdb does not wait for it."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.gdb import vfile
from callgate.tools.debugger.gdb.protocol.connection import POLL_SECONDS

Gdb = Callable[..., str]
Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+"
SILENCE = 0.2  # seconds, in which gdb is prodded several times


def silent(client: Any) -> bool:
    """Whether nothing comes for a while."""
    return not select.select([client.socket], [], [], SILENCE)[0]


def test_a_client_that_is_silent_after_vrun_gets_acknowledgements_until_it_runs_something(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(boot_demo("dir")))
    client.ask(HELLO)
    assert client.ask(b"!") == b"OK"
    assert client.ask(b"QStartNoAckMode") == b"OK"
    assert client.ask(b"vKill;1") == b"OK"
    assert silent(client)
    begin = time.monotonic()
    assert client.ask(b"vRun;").startswith(b"T05")
    prods = client.data
    while len(prods) < 3:
        prods += client.socket.recv(100)
    assert set(prods) == set(b"+")
    assert time.monotonic() - begin > (len(prods) - 1) * POLL_SECONDS
    assert client.ask(b"vCont;s:p1.-1").startswith(b"T05")
    assert client.data == b""
    assert silent(client)
    assert client.ask(b"qC").startswith(b"QC")


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(100)
@pytest.mark.parametrize("steps", [1, 3])  # each is a throw of gdb's dice; after these it looks elsewhere first
def test_gdb_comes_to_the_first_instruction_by_starti_while_it_knows_five_inferiors(gdb: Gdb, steps: int) -> None:
    shell = "break take_slot\n" + "continue\n" * 3 + "delete\n" + "inferior 5\nstepi\n" * steps
    out = gdb(f"{shell}inferior 1\nstarti\nprint/x $pc\nkill\n", commands="df", target="extended-remote")
    assert "$1 = 0x100000" in out, out


def test_files_with_debug_information_are_made_before_gdb_connects_and_before_it_hears_of_a_process(
    boot_demo: Boot, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(vfile, "debug_file", lambda name: made.append(name) or b"")
    serving = serve(boot_demo("dir"))
    client = connect(serving)
    client.ask(HELLO + b";exec-events+")
    assert made == ["kernel"]
    while b"exec:" not in (answer := client.ask(b"vCont;c")):
        assert answer.startswith(b"T05")
    assert made == ["kernel", "rom"]
