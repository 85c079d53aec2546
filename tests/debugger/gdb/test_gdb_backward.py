"""A real gdb that goes backward, without any set-up."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.system import System
from callgate.tools.debugger.gdb.server import SCRIPT
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.workbench import Workbench

Gdb = Callable[..., str]
IN_REQUEST = "break take_slot\ncontinue\ncontinue\ncontinue\n"


def parts(out: str) -> list[str]:
    assert "== end" in out, out
    return re.split(r"^== (?:\d+|end)$", out, flags=re.MULTILINE)[1:-1]


def say(*lines: str) -> str:
    return "".join(f"echo \\n== {index}\\n\n{line}\n" for index, line in enumerate(lines)) + "echo \\n== end\\n\nkill\n"


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(100)
def test_gdb_steps_back_and_comes_to_the_same_breakpoints_in_the_other_order(gdb: Gdb) -> None:
    forward, stepped, backward, again, beginning = parts(
        gdb(
            say(
                IN_REQUEST + "print $pc\nprint $esp",
                "stepi\nstepi\nstepi\nreverse-stepi\nreverse-stepi\nreverse-stepi\nprint $pc\nprint $esp",
                "reverse-continue\nreverse-continue\nprint $_thread",
                "continue\ncontinue\nprint $pc\nprint $esp",
                "delete\nreverse-continue\nprint/x $pc",
            )
        )
    )
    values = re.findall(r"\$\d+ = (.*)", forward)
    assert re.findall(r"\$\d+ = (.*)", stepped) == values
    assert len(re.findall(r"hit Breakpoint 1", backward)) == 2
    assert re.findall(r"\$\d+ = (.*)", again)[-2:] == values
    assert "No more reverse-execution history" in beginning
    assert "0x100000" in beginning


@pytest.mark.timeout(100)
def test_gdb_goes_back_to_the_write_of_a_slots_client(gdb: Gdb) -> None:
    """By the watching process itself: gdb does not take other inferiors' writes for hits."""
    client = offset_of(Endpoint, "slots") + 14
    found, where = parts(
        gdb(
            say(
                IN_REQUEST + "delete\ntbreak post_and_wait\ncontinue\n"
                f"set $at = $gs_base + {client}\nwatch *(unsigned short *)$at\nreverse-continue",
                "backtrace 1",
            )
        )
    )
    assert "atchpoint" in found
    assert re.search(r"Old value = \d+", found)
    assert re.search(r"#0 +(?:0x[0-9a-f]+ in )?ipc_request \(\) at .*client.asm", where)


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(100)
def test_our_steps_by_source_line_stop_where_gdb_does(gdb: Gdb, boot_demo: Callable[[str], System]) -> None:
    steps = 14
    (there,) = parts(gdb(say(IN_REQUEST + "delete\n" + 'step\nprintf "at %x\\n", $pc\n' * steps)))
    system = boot_demo("dir")
    bench = Workbench(system, History(system))
    bench.stops.add("take_slot")
    for _ in range(3):
        bench.run()
    bench.stops.clear()
    ours = []
    for _ in range(steps):
        bench.lines.forward(bench.step)
        ours.append(bench.machine.cpu.eip)
    assert [int(found, 16) for found in re.findall(r"^at ([0-9a-f]+)$", there, re.MULTILINE)] == ours


@pytest.mark.timeout(100)
def test_gdb_goes_back_to_the_write_of_a_message_register_between_the_events_of_its_request(
    gdb: Gdb, boot_demo: Callable[[str], System], serve: Callable[[System], Any]
) -> None:
    system = boot_demo("cat README.TXT")
    events: list[tuple[int, str]] = []
    system.trace(lambda event: events.append((system.machine.position.retired, event.kind)))
    posted, written, after = parts(
        gdb(
            f"source {SCRIPT}\n"
            + say(
                'monitor tbreak ipc.post if op == CLOSE\ncontinue\nprint $_message("d0p1", 0).operation',
                'watch -location $_message("d0p1", 0).eax\nreverse-continue\nx/i $pc\n'
                "python print('AT', gdb.execute('monitor clock', to_string=True))",
                'stepi\nprint $_message("d0p1", 0).eax == $ebx',
            ),
            serving=serve(system),
        )
    )
    assert "= CLOSE" in posted
    assert re.search(r"mov +%ebx,%es:0x10$", written, re.MULTILINE), "the store that is next"
    assert re.search(r"= 1$", after, re.MULTILINE)
    at = int(re.search(r"^AT (\d+) instructions", written, re.MULTILINE)[1])  # type: ignore[index]
    later = [(retired, kind) for retired, kind in events if retired > at and kind.startswith("ipc.")]
    assert [kind for _, kind in later[:2]] == ["ipc.fill", "ipc.post"]
    assert later[0][0] - at < 20, "instructions from the store to the end of the filling"
