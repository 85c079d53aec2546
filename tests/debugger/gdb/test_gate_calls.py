"""Calls of the gates as system calls of the protocol (QCatchSyscalls), and by `monitor catch call` in a real gdb."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import ServerCall, SystemCall
from callgate.kernel.system import System
from callgate.tools.debugger.gdb.server import SCRIPT

Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+"
IPC, SERVER = 0x1_0000, 0x2_0000


def stops(client: Any, way: bytes, most: int) -> list[tuple[str, int, str]]:
    """Let the machine run to `most` calls; return kind, number and thread of each."""
    found: list[tuple[str, int, str]] = []
    for _ in range(40 * most):
        answer: bytes = client.ask(way)
        while answer.startswith(b"O"):
            answer = client.receive()
        if stop := re.search(rb"thread:(\w+\.\w+);syscall_(entry|return):(\w+);", answer):
            found.append((stop[2].decode(), int(stop[3], 16), stop[1].decode()))
        elif answer.startswith(b"W") or b"replaylog" in answer:
            break
        if len(found) == most:
            break
    return found


def test_calls_of_all_gates_stop_a_client_that_catches_system_calls_forward_and_backward(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    plain, system = boot_demo("cat README.TXT"), boot_demo("cat README.TXT")
    of_stream: list[int] = []
    plain.trace(lambda event: of_stream.append(event.fields["call"]) if event.kind == "gate.system" else None)
    plain.run()
    client = connect(serve(system))
    assert b"QCatchSyscalls+" in client.ask(HELLO)
    assert client.ask(b"QCatchSyscalls:1;%x" % of_stream[0]) == b"OK"
    assert [number for _, number, _ in stops(client, b"vCont;c", 1)] == of_stream[:1]
    assert client.ask(b"QCatchSyscalls:1") == b"OK"
    forward = stops(client, b"vCont;c", 20)
    entered = [number for kind, number, _ in forward if kind == "entry" and number < IPC]
    assert entered == of_stream[1 : len(entered) + 1]
    assert {number >> 16 for _, number, _ in forward} >= {0, 2}
    open_calls: dict[str, int] = {}
    for kind, number, thread in forward:  # a return is that of the thread's last call
        assert kind == "entry" or open_calls.get(thread, number) == number
        open_calls[thread] = number
    assert stops(client, b"bc", 12) == forward[-2:-14:-1], "the stop where it stands is not one before it"
    assert stops(client, b"vCont;c", 12) == forward[-12:]
    assert client.ask(b"QCatchSyscalls:0") == b"OK"
    assert stops(client, b"vCont;c", 1) == []


def test_only_the_calls_that_were_named_stop_a_client_and_wrong_numbers_are_refused(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(boot_demo("cat README.TXT")))
    client.ask(HELLO)
    assert client.ask(b"QCatchSyscalls:2").startswith(b"E.'2' is neither 0 nor 1")
    assert client.ask(b"QCatchSyscalls:1;xyz").startswith(b"E.'xyz' is not a hexadecimal number")
    numbers = SystemCall.OPEN, SERVER + ServerCall.REPLY_SECTORS
    assert client.ask(b"QCatchSyscalls:1;%x;%x" % numbers) == b"OK"
    found = stops(client, b"vCont;c", 4)
    assert [(kind, number) for kind, number, _ in found] == [
        ("entry", SystemCall.OPEN), ("entry", SERVER + ServerCall.REPLY_SECTORS),
        ("return", SystemCall.OPEN), ("return", SERVER + ServerCall.REPLY_SECTORS),
    ]  # fmt: skip


@pytest.mark.thorough(only=True)  # the other tests of this file have the same without gdb
def test_gdb_stops_at_a_call_by_name_and_at_its_return_and_goes_back_to_it(gdb: Callable[..., str]) -> None:
    out = gdb(
        f"source {SCRIPT}\nmonitor calls\ncatch call OPEN ipc.null\ncontinue\nprint $eax\nbacktrace 2\n"
        "continue\nx/i $pc\nprint $cpl\nstepi\nprint $cpl\nreverse-continue\nreverse-continue\nprint $eax\n"
        "python\ntry: gdb.execute('catch call OPNE')\nexcept gdb.error as error: print('REFUSED', error)\nend\n"
        "catch call none\nkill\n",
        "cat README.TXT",
    )
    assert re.search(r"^ +13 +0x0000d +system\.OPEN$", out, re.MULTILINE)
    assert re.search(r"^ +65536 +0x10000 +ipc\.NULL$", out, re.MULTILINE)
    assert "system.OPEN, ipc.NULL will stop the machine, and the return from it" in out
    assert out.count("call to system.OPEN (13)") == 2
    assert out.count("returned from call system.OPEN (13)") == 2
    assert re.search(r"^#0 +system_gate \(\) at .*gates\.asm", out, re.MULTILINE)
    assert re.search(r"=> 0x\w+ <leave_\w+\+\d+>:\tlret", out)
    assert re.findall(r"^\$\d+ = (\w+)", out, re.MULTILINE) == ["13", "0", "3", "13"]
    assert "catch: no call opne; there is open" in out
    assert "no call of a gate will stop the machine" in out
