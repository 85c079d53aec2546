"""`monitor` has the commands of the terminal debugger, and leaves gdb with what is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from callgate.kernel.system import System

Gdb = Callable[..., str]
Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
IN_REQUEST = "break take_slot\ncontinue\ncontinue\ncontinue\n"
PLACE = "python print('AT', int(gdb.parse_and_eval('(unsigned)$pc')), gdb.selected_thread().name)\n"
LOOP = b"ebfe"  # jmp to itself


def told(out: str) -> list[str]:
    """Return what came between the marks of a script."""
    assert "== end" in out, out
    return re.split(r"^== \w+$", out, flags=re.MULTILINE)[1:]


def script(*parts: str) -> str:
    return "".join(f"echo \\n== part\\n\n{part}\n" for part in parts) + "echo \\n== end\\n\nkill\n"


def test_a_step_by_phase_waits_for_gdbs_continue_and_ends_at_the_events_of_the_stream(
    gdb: Gdb, boot_demo: Boot, serve: Serve
) -> None:
    system = boot_demo("dir")
    kinds: list[str] = []
    system.trace(lambda event: kinds.append(event.kind))
    step = "monitor step phase\n" + PLACE + "continue\n" + PLACE
    out = gdb(
        script(
            IN_REQUEST + "delete\n" + PLACE,
            *(step, step, "monitor back phase\nreverse-continue\n" + PLACE),
            "monitor next\nmonitor ignore 1 2\nmonitor commands 1\nmonitor set eax = 5\nmonitor goto 100\nstepi\n",
            "monitor break ipc.reply if thread == 10\ncontinue\n" + PLACE,
            "monitor delete\nmonitor goto 10000\nreverse-continue\nmonitor clock",
        ),
        serving=serve(system),
    )
    before, first, second, back, _, stop, _ = told(out)[:7]
    places = [re.findall(r"^AT (\d+) (.*)$", part, re.MULTILINE) for part in (before, first, second, back)]
    assert places[1][0] == places[0][0], "the command itself moves nothing"
    assert "type continue: it will be 'step phase'" in out
    assert places[3] == places[1][1:], "back by a phase"
    assert places[2][1] != places[1][1]
    shown = re.findall(r"^event (ipc\.\w+) ", out, re.MULTILINE)[:2]  # by gdb's console, which is standard error
    of_requests = [kind for kind in kinds if kind.startswith("ipc.")]
    assert shown == ["ipc.take", "ipc.fill"]
    assert any(of_requests[index : index + 2] == shown for index in range(len(of_requests)))
    assert "gdb does this itself, and has to know of it: next" in out
    assert "has to know of it: ignore, of its own breakpoints" in out
    assert "has to know of it: commands, of its own breakpoints" in out
    assert "set $eax = 5" in out
    assert "'goto 100' waited for reverse-continue; it is forgotten" in out
    assert re.search(r"monitor's stop 1: event ipc\.reply thread=0xa ", out)
    assert re.search(r"^AT \d+ hosted:d0p1$", stop, re.MULTILINE)
    assert re.search(r"^10000 instructions, ", out, re.MULTILINE)


def ask(client: Any, line: str) -> str:
    """Return what a command of `monitor` prints, in pieces or at once."""
    text, answer = "", client.ask(b"qRcmd," + line.encode().hex().encode())
    while answer[:1] == b"O" and answer != b"OK":
        text += bytes.fromhex(answer[1:].decode()).decode()
        answer = client.receive()
    return text if answer == b"OK" else text + bytes.fromhex(answer.decode()).decode()


def loop_in_ring_3(client: Any) -> None:
    """Run to the first system call, and have its caller jump on the spot instead."""
    ask(client, "tbreak system_gate")
    client.send(b"vCont;c")
    while (answer := client.receive()).startswith(b"O"):
        pass
    assert answer.startswith(b"T05")
    esp = int.from_bytes(bytes.fromhex(client.ask(b"p4").decode()), "little")
    eip = int.from_bytes(bytes.fromhex(client.ask(b"m%x,4" % esp).decode()), "little")
    assert client.ask(b"M%x,2:%s" % (eip, LOOP)) == b"OK"


def test_ctrl_c_ends_a_step_by_request_to_which_no_request_comes(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    system = boot_demo("dir")
    serving = serve(system)
    client = connect(serving)
    loop_in_ring_3(client)
    assert ask(client, "step request") == "type continue: it will be 'step request'\n"
    client.send(b"vCont;c")
    serving.passes(1_000_000)
    client.socket.sendall(b"\x03")
    said = ""
    while (answer := client.receive()).startswith(b"O"):
        said += bytes.fromhex(answer[1:].decode()).decode()
    assert said.startswith("interrupted\n")
    assert answer.startswith(b"T05")
    assert ask(client, "where").splitlines()[0] in said
    assert not system.machine.control.interrupted


def test_help_lists_both_kinds_of_commands_and_a_wrong_word_names_one_like_it(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    client = connect(serve(boot_demo("dir")))
    text = ask(client, "help")
    assert re.search(r"^xp .*physical memory", text, re.MULTILINE)
    assert re.search(r"^back phase \[N\] +back to the last event of a request$", text, re.MULTILINE)
    assert ask(client, "help watch").startswith("watch  PLACE")
    assert ask(client, "thread") == "there is no command 'thread'; try threads\n"
    assert ask(client, "break nowhere_at_all").startswith("break: no symbol 'nowhere_at_all'")
    assert ask(client, "info break") == "no stops\n"
    assert "EIP=00100000" in ask(client, "info registers"), "QEMU's view keeps its name"
    assert re.search(r"^ *\*? *eip +", ask(client, "registers"), re.MULTILINE)


def test_the_next_gdb_finds_no_stop_of_the_one_before(boot_demo: Boot, serve: Serve, connect: Connect) -> None:
    serving = serve(boot_demo("dir"))
    client = connect(serving)
    ask(client, "break ipc.reply")
    ask(client, "step phase")
    client.close()
    second = connect(serving)
    assert ask(second, "info break") == "no stops\n"


def test_a_watchpoint_of_monitors_is_told_to_gdb_as_a_plain_stop(
    boot_demo: Boot, serve: Serve, connect: Connect
) -> None:
    system = boot_demo("dir")
    client = connect(serve(system))
    assert "stop 1 set: write of 4 bytes" in ask(client, f"watch [{system.kernel.image.address('kernel_words'):#x}]")
    client.send(b"vCont;c")
    said = ""
    while (answer := client.receive()).startswith(b"O"):
        said += bytes.fromhex(answer[1:].decode()).decode()
    assert said.startswith("monitor's stop 1: write of 4 bytes")
    assert answer.startswith(b"T05")
    assert b"watch:" not in answer, "gdb would go on"


def test_a_move_of_monitors_runs_through_the_beginnings_of_processes_each_of_which_gdb_is_told_once(
    gdb: Gdb, boot_demo: Boot, serve: Serve
) -> None:
    system = boot_demo("df")
    taken: list[int] = []
    system.trace(lambda event: taken.append(system.machine.clock.retired) if event.kind == "ipc.take" else None)
    where = "python print('AT', gdb.execute('monitor clock', to_string=True))\n" + PLACE
    out = gdb(
        script(
            "monitor step request 6\ncontinue\n" + where,
            "monitor step request\ncontinue\n" + where,
            "python print('KNOWS', *(each.progspace.filename for each in gdb.inferiors()))",
        ),
        serving=serve(system),
    )
    assert [int(found) for found in re.findall(r"^AT (\d+) instructions", out, re.MULTILINE)] == taken[5:7]
    assert len(re.findall(r"^AT \d+ shell$", out, re.MULTILINE)) == 2
    programs = re.findall(r"^process \d is executing new program: .*/(\w+)\.elf$", out, re.MULTILINE)
    assert programs == ["rom", "hosted", "hosted", "shell"]
    (known,) = re.findall(r"^KNOWS (.*)$", out, re.MULTILINE)
    assert re.findall(r"(\w+)\.elf", known) == ["kernel", *programs]
