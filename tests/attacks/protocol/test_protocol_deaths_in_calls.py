"""A process that is killed while the kernel reads its memory for a call, whichever call that is, ends soon.

The page that the kernel reads lies in the window of a file, and its data come late or never.
"""

from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.core.records import Process
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes

Arenas = Callable[..., Any]
CALLS = ("program_arguments", "directory_path", "locked_path", "written")
BOUND = 10_000  # instructions from the end of a process to that of its last thread
KILLED = 137
ENDS = ("killed", "unplugged", "server killed")  # the last two just before the process is


def server_of(made: Any) -> Process:
    process = next(p.process for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")
    assert process is not None
    return process


def attention(made: Any) -> None:
    """Have a CPU that may be halted look at what was changed from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


@pytest.fixture
def slow(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A disk that takes half a millisecond for its file's data."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"a": synthetic.Layout(5000, [(64, 10)])})
    made = arena(MemoryMedium(synthetic.disk(100)), latency=Latency(command=500_000))
    made.run()
    return made


def begin(made: Any, call: str) -> Process:
    """Start an attacker, and go on until the kernel waits for its page."""
    process: Process = made.start("windows", bytes([CALLS.index(call) + 1]))
    attention(made)
    for _ in range(1000):
        if WaitReason.FILE in map(made.system.kernel.scheduler.reason_of, process.threads):
            return process
        made.run(20)
    pytest.fail(f"no thread waits: {process.exit_code}, {made.log}")


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_process_killed_while_the_kernel_reads_its_window_for_any_call_ends_soon(
    slow: Any, call: str, end: str
) -> None:
    attacker = begin(slow, call)
    if end == "unplugged":
        slow.system.unplug(0)
    if end == "server killed":
        slow.kernel.servers.kill(server_of(slow), "killed by the test")
    slow.kernel.processes.kill(attacker, KILLED, "killed by the test")
    attention(slow)
    slow.run(BOUND)
    assert attacker.threads == []
    slow.run()
    slow.assert_unharmed()
    assert slow.kernel.check() == []
