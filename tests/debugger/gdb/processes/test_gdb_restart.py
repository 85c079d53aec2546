"""Extended mode: the machine is killed and switched on again, left and come back to, by one connection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from callgate.kernel.system import System

Gdb = Callable[..., str]
Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
CLOCK = "python print('AT', gdb.execute('monitor clock', to_string=True).split()[0])\n"
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+"


def test_run_switches_the_machine_on_again_and_the_same_run_comes_with_its_output(
    gdb: Gdb, boot_demo: Boot, serve: Serve
) -> None:
    system = boot_demo("echo once")
    shown: list[bytes] = []
    system.machine.serial.output = shown.append
    out = gdb(
        f"starti\nprint/x $pc\nbreak system_write\ncontinue\n{CLOCK}inferior 1\nrun\n{CLOCK}"
        "delete\ncontinue\ninferior 1\nrun\n",
        serving=serve(system),
        target="extended-remote",
    )
    assert re.search(r"^\$1 = 0x100000$", out, re.MULTILINE), out
    first, again = map(int, re.findall(r"^AT (\d+)$", out, re.MULTILINE))
    assert first == again > 10_000, out
    assert out.count("[Inferior 1 (process 1) exited normally]") == 2
    assert b"".join(shown).count(b"once\n") == 2


def ran(client: Any, packet: bytes) -> bytes:
    """Return the first answer that is no text."""
    answer: bytes = client.ask(packet)
    while answer.startswith(b"O") and answer != b"OK":
        answer = client.receive()
    return answer


def test_a_machine_that_was_left_runs_on_until_the_client_attaches_to_a_process_again(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    system = boot_demo("dir")
    serving = serve(system)
    client = connect(serving)
    client.ask(HELLO)
    assert client.ask(b"!") == b"OK"
    client.ask(b"QCatchSyscalls:1;2")
    while b"thread:p5" not in (answer := ran(client, b"vCont;c")) or b"syscall" not in answer:
        pass
    client.ask(b"QCatchSyscalls:0")
    back = int.from_bytes(bytes.fromhex(client.ask(b"m%x,4" % system.machine.cpu.esp).decode()), "little")
    assert client.ask(b"M%x,2:ebfe" % back) == b"OK"  # a jump to itself
    for process in range(1, 6):
        assert client.ask(b"D;%x" % process) == b"OK"
    serving.passes(10_000)
    assert ran(client, b"vAttach;99").startswith(b"E.there is no process 153")
    assert re.search(rb"^T05.*thread:p5\.\w+;$", ran(client, b"vAttach;5"))
    assert ran(client, b"vAttach;5").startswith(b"E.gdb is at process 5 already")
    stopped = system.machine.clock.retired
    assert client.ask(b"qfThreadInfo").count(b"p") > 5
    assert system.machine.clock.retired == stopped


def test_a_killed_machine_answers_nothing_about_itself_until_it_is_switched_on(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(boot_demo("dir")))
    client.ask(HELLO)
    assert client.ask(b"R00") == b"", "only in extended mode"
    client.ask(b"!")
    assert ran(client, b"vRun;").startswith(b"E.the kernel still runs, as inferior 1")
    assert client.ask(b"vKill;1") == b"OK"
    for packet in (b"g", b"m100000,4", b"vCont;c", b"P3=44332211", b"qC", b"vAttach;1", b"qRcmd,68656c70", b"bs"):
        assert client.ask(packet).startswith(b"E.the machine has been killed: `run` switches it on")
    assert client.ask(b"?") == b"W00"
    assert client.ask(b"qXfer:threads:read::0,1000").count(b"<thread ") == 0
    for name, why in (
        (b"vRun;2f62696e2f6c73", b"E.the machine boots its kernel"),
        (b"vRun;;6c73", b"E.the machine takes"),
    ):
        assert client.ask(name).startswith(why)
    assert re.search(rb"^T05.*08:00001000;.*thread:p1\.ffff;", client.ask(b"vRun;"))
    assert client.ask(b"P3=44332211") == b"OK"
    client.send(b"R00")
    assert client.ask(b"p3") == b"00000000"
    client.send(b"k")
    assert client.ask(b"?") == b"W00"
    client.close()


def test_a_process_that_the_client_has_killed_is_killed_again_when_the_run_is_repeated(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    system = boot_demo("/rom/hello; echo $?")
    shown: list[bytes] = []
    system.machine.serial.output = shown.append
    client = connect(serve(system))
    client.ask(HELLO)
    client.ask(b"QCatchSyscalls:1;2")
    while b"thread:p6" not in (answer := ran(client, b"vCont;c")) or b"syscall" not in answer:
        pass
    client.ask(b"QCatchSyscalls:0")
    assert client.ask(b"vKill;6") == b"OK"
    ask(client, b"break exit_thread if thread == 12")
    assert ran(client, b"vCont;c").startswith(b"T05")
    there = system.machine.position
    assert b"137" in b"".join(shown)
    assert b"replaylog:begin" in ran(client, b"bc")
    assert system.machine.position.retired == 0
    assert ran(client, b"vCont;c").startswith(b"T05")
    assert system.machine.position == there


def ask(client: Any, line: bytes) -> None:
    assert bytes.fromhex(client.ask(b"qRcmd," + line.hex().encode()).decode()).startswith(b"stop 1 set")
