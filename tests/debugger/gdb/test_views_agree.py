"""gdb's own view of registers, memory, threads and callers against the machine's and ours, at random stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.thread import KERNEL_STACK_SIZE
from callgate.kernel.system import System
from callgate.kernel.watching.thread_view import ThreadView
from callgate.tools.debugger.debuggee.frames import frames
from callgate.tools.debugger.gdb.monitoring.monitor import Monitor

REGISTERS = (
    "eax",
    "ecx",
    "edx",
    "ebx",
    "esp",
    "ebp",
    "esi",
    "edi",
    "eip",
    "eflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
)
SYSTEM = ("cr0", "cr2", "cr3", "cr4")
LABELS = (
    "switch_resume",
    "system_gate",
    "leave_gate",
    "block",
    "handoff",
    "ipc_request",
    "server_gate",
    "next_request",
)
STACK_BYTES, CODE_BYTES = 16, 8
SCRIPT = """\
python
import json, random
random = random.Random({seed})
labels = {labels}
def one(stop):
    if random.random() < 0.5 or stop == 0:
        gdb.execute("tbreak " + random.choice(labels), to_string=True)
        gdb.execute("continue", to_string=True)
    else:
        gdb.execute("stepi %d" % random.randrange(1, 25), to_string=True)
    # A step that switches leaves gdb at the thread that was stepped.
    threads = [thread for each in gdb.inferiors() for thread in each.threads()]
    next(thread for thread in threads if (thread.details or "").startswith("running")).switch()
    clock = gdb.execute("monitor clock", to_string=True)
    values = {{name: int(gdb.parse_and_eval("(unsigned)$" + name)) for name in {registers}}}
    inferior = gdb.selected_inferior()
    read = lambda at, size: bytes(inferior.read_memory(at, size)).hex()
    threads = sorted(thread.name for thread in threads if thread.name)  # gdb keeps the last one of an ended process
    frame, callers = gdb.newest_frame(), []
    while frame is not None:
        callers.append(frame.pc())
        frame = frame.older()
    memory = [read(values["esp"], {stack}), read(values["eip"], {code})]
    print("STOP " + json.dumps([callers, clock, values, *memory, threads]))
for stop in range({stops}):
    try:
        one(stop)
    except gdb.error as error:
        print("END", error)
        break
end
kill
"""


def view(system: System) -> list[Any]:
    """Return what the machine itself says now, in the form of the script; without the debugger's code."""
    machine = system.machine
    values = {name: getattr(machine.cpu, name) for name in (*REGISTERS, *SYSTEM)}
    tasks = system.kernel.state.tasks
    ending = [thread for thread in tasks.dead_threads if 0 <= thread.stack - machine.cpu.esp < KERNEL_STACK_SIZE]
    names = sorted(ThreadView(system.kernel, thread).name for thread in (*tasks.threads.values(), *ending))
    clock = f"{machine.clock.retired} instructions, {machine.clock.now} ns\n"
    stack, code = machine.read(machine.cpu.esp, STACK_BYTES).hex(), machine.read(machine.cpu.eip, CODE_BYTES).hex()
    return [clock, values, stack, code, names]


@pytest.mark.parametrize("stops", [6, pytest.param(200, marks=pytest.mark.thorough(only=True))])
def test_gdb_sees_at_random_stops_what_the_machine_says(
    monkeypatch: pytest.MonkeyPatch,
    gdb: Callable[..., str],
    boot_demo: Callable[[str], System],
    serve: Callable[[System], Any],
    stops: int,
) -> None:
    system = boot_demo("; ".join(["dir", "cat README.TXT", "df"] * (1 + stops // 20)))
    ours: list[list[Any]] = []
    plain = Monitor._clock

    def noted(monitor: Monitor, text: str, thread: Any) -> str:
        debuggee = monitor.debuggee
        ours.append([[frame.eip for frame in frames(debuggee, debuggee.threads.running())], *view(system)])
        return plain(monitor, text, thread)

    monkeypatch.setattr(Monitor, "_clock", noted)
    script = SCRIPT.format(
        seed=stops,
        labels=list(LABELS),
        registers=[*REGISTERS, *SYSTEM],
        stack=STACK_BYTES,
        code=CODE_BYTES,
        stops=stops,
    )
    out = gdb(script, serving=serve(system))
    theirs = [json.loads(line[5:]) for line in out.splitlines() if line.startswith("STOP ")]
    assert len(theirs) >= stops * 3 // 4, out  # the last label may not be reached again
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine[-1] != other[-1]:  # after the end of the shell gdb may keep its last thread for a while
            other[-1].remove("shell")
        assert other == mine, f"stop {number}"
