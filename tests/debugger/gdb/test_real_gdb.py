"""A real gdb at a booted system, with nothing typed but `target remote`.

A session takes a second, most of which gdb spends on reading symbols: each test asks for many things at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.system import System

Gdb = Callable[..., str]
Boot = Callable[[str], System]
Serve = Callable[[System], Any]
IN_REQUEST = "break take_slot\ncontinue\ncontinue\ncontinue\n"  # of two mounts, then of the shell


def say(*parts: str) -> str:
    """Return a script whose parts' outputs can be told apart by `told`."""
    return "".join(f"echo \\n== {index}\\n\n{part}\n" for index, part in enumerate(parts)) + "echo \\n== end\\n\nkill\n"


def told(out: str) -> list[str]:
    """Return the output of each part of a script of `say`."""
    parts = re.split(r"^== (?:\d+|end)$", out, flags=re.MULTILINE)
    assert "== end" in out, out
    return parts[1:-1]


def test_gdb_shows_source_callers_processes_threads_and_tables_of_a_stop_in_the_kernel(gdb: Gdb) -> None:
    stop, trace, source, inferiors, threads, libraries, other, tables, memory, finished, elsewhere = told(
        gdb(
            say(
                *(IN_REQUEST, "backtrace", "list", "info inferiors", "info threads", "info sharedlibrary"),
                "thread 2.1\nbacktrace 1\nprint $es\nthread 5.1",
                *("info os processes\ninfo os threads", "info mem", "finish", "thread 2.1\ncontinue"),
            )
        )
    )
    assert re.search(r'Thread 5\.1 "shell" hit Breakpoint 1\.\d', stop)
    assert re.search(r"#0 .*slots\.asm:34\n#1 +0x[0-9a-f]+ in ipc_request \(\) at .*client\.asm", trace)
    assert re.search(r"^34\t +cmp +dword ptr gs:\[Endpoint\.slot_waiters\], 0$", source, re.MULTILINE)
    programs = dict(re.findall(r"^\*? +(\d+) +process \d+ .*target:/callgate/(\w+)\.elf", inferiors, re.MULTILINE))
    assert programs == {"1": "kernel", "2": "rom", "3": "hosted", "4": "hosted", "5": "shell"}
    states = dict(re.findall(r'Thread [\d.]+ "([^"]+)" \(([^)]+)\)', threads))
    assert (states["shell"], states["rom"]) == ("running, ring 0", "waits for REQUEST")
    assert re.search(r'2\.1 +Thread .*"rom".* next_request \(\) at .*server_half\.asm', threads)
    assert re.search(r"Yes +target:/callgate/kernel\.elf", libraries)
    assert "next_request" in other
    assert "<unavailable>" in other  # a switch does not keep ES
    assert re.search(r"^5 +4 +shell +shell +1 ", tables, re.MULTILINE)
    assert re.search(r"^2 +3 +rom +waits for REQUEST +0x210", tables, re.MULTILINE)
    assert re.search(r"0x00000000 0xc0000000 rw", memory)
    assert re.search(r"ipc_request \(\) at .*client\.asm:\d+", finished)
    assert re.search(r'"shell" hit Breakpoint 1', elsewhere), "though another process's thread was told to go on"


def test_steps_cross_the_call_gate_and_watchpoints_show_both_values(gdb: Gdb) -> None:
    free = offset_of(Endpoint, "free")
    entered, left, again, current, mask, conditional = told(
        gdb(
            say(
                "break system_gate\ncontinue\nprint/x $cpl\nprint/x $cs\nset $back = *(unsigned *)$esp\ndelete",
                "tbreak *$back\ncontinue\nprint/x $cpl\nprint/x $cs\nprint $pc == $back",
                "while $cpl == 3\nstepi\nend\ninfo symbol $pc",
                "watch *(unsigned *)&kernel_words\ncontinue\nbacktrace 1\ndelete",
                f"break take_slot\ncontinue\ndelete\nwatch *(unsigned *)($gs_base + {free})\ncontinue\nfinish\ndelete",
                "break switch_resume if $eax == 0x238\ncontinue\nprint/x $eax\ninfo breakpoints",
            )
        )
    )
    assert re.findall(r"^\$\d+ = (\w+)$", entered, re.MULTILINE) == ["0x0", "0x8"]
    assert re.findall(r"^\$\d+ = (\w+)$", left, re.MULTILINE) == ["0x3", "0x1b", "1"]
    assert re.search(r"^(system|ipc|server)_gate in section", again, re.MULTILINE)
    found = re.search(r"Hardware watchpoint \d: .*\n\nOld value = (\d+)\nNew value = (\d+)\n", current)
    assert found, current
    assert found[1] != found[2]
    assert "hand_over_request" in current
    taken = re.search(r"Old value = (\d+)\nNew value = (\d+)\n", mask)
    assert taken, mask
    before, after = map(int, taken.groups())
    assert (before ^ after).bit_count() == 1, "a slot is one bit"
    assert re.search(r"^\$\d+ = 0x238$", conditional, re.MULTILINE)
    assert "(target evals)" in conditional
    assert "breakpoint already hit 1 time" in conditional


def test_a_breakpoint_in_a_program_that_starts_later_holds_at_its_first_instruction(gdb: Gdb) -> None:
    out = gdb(
        "set breakpoint pending on\nbreak hello.asm:start\ninfo breakpoints\ncontinue\n"
        "info symbol $pc\nprint $cpl\nkill\n",
        "/rom/hello",
    )
    assert "<PENDING>" in out
    assert re.search(r'"hello" hit Breakpoint 1.*start \(\) at .*hello\.asm', out), out
    assert "start in section .text" in out
    assert re.search(r"^\$1 = 3$", out, re.MULTILINE)


@pytest.mark.thorough(only=True)  # tests/tools/cli/test_gdb_option.py has the same without gdb
def test_detached_the_machine_goes_on_to_its_end(gdb: Gdb, boot_demo: Boot, serve: Serve) -> None:
    system = boot_demo("dir")
    shown: list[bytes] = []
    system.machine.serial.output = shown.append
    serving = serve(system)
    out = gdb("break take_slot\ncontinue\ndetach inferiors 1 2 3\n", serving=serving)
    assert len(re.findall(r"\[Inferior \d \(process \d\) detached\]", out)) == 3
    serving.end(by_itself=True)
    assert serving.stop is not None
    assert (serving.stop.reason, b"README.TXT" in b"".join(shown)) == ("exit", True)
    assert serving.said[-1] == "gdb: detached; the machine goes on"


@pytest.mark.thorough(only=True)  # test_server.py has the same without gdb
def test_the_next_gdb_finds_every_process_and_no_breakpoint_of_the_one_before(
    gdb: Gdb, boot_demo: Boot, serve: Serve
) -> None:
    serving = serve(boot_demo("dir"))
    assert "hit Breakpoint" in gdb(f"{IN_REQUEST}disconnect\n", serving=serving)
    out = gdb("info inferiors\nbreak release_slot\ncontinue\ndelete\ncontinue\n", serving=serving)
    assert re.findall(r"^\*? +\d+ +process (\d+) .*callgate/\w+\.elf", out, re.MULTILINE) == list("12345")
    assert re.search(r'"shell" hit Breakpoint 1\.\d', out)
    assert "[Inferior 1 (process 1) exited normally]" in out
    serving.end()
    assert serving.stop is not None
    assert serving.stop.reason == "exit"
