"""A disk replaced by another at any instant of a read: no reader gets a byte of the one for a byte of the other.

The old server may be anywhere in its answer then, and the new one has its place, its endpoint's number and the same
file.  CALLGATE_REPLUG_POINTS says at how many instants; a number greater than the read's length means all of them.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes

Sessions = Callable[..., Any]
POINTS = int(os.environ.get("CALLGATE_REPLUG_POINTS", "6"))
SECTORS = 64
OLD = synthetic.disk(SECTORS)
NEW = OLD[:512] + bytes(byte ^ 0xFF for byte in OLD[512:])
FILE = synthetic.Layout(20 * 512 + 100, [(9, 3), (21, 18)])  # copied pages, and pages that are the disk's blocks
#: What a reader of a disk that goes may hear, after what it has read.
TOLD = {0} | {100 + code for code in (ErrorCode.SERVER_DIED, ErrorCode.UNPLUGGED, ErrorCode.NOT_FOUND)}


@pytest.fixture
def begun(session: Sessions, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A reader that stands before its OPEN."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": FILE})
    latency = Latency(command=5_000, sector=100)
    made = session(MemoryMedium(OLD), programs=[("reader", "e/d0/f")], latency=latency)
    made.reach("reader", "start")
    return made


def attention(made: Any) -> None:
    """Have a CPU that may be halted look at what was changed from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def test_a_disk_that_is_replaced_at_any_instant_of_a_read_mixes_with_no_other(begun: Any) -> None:
    made, old, new = begun, FILE.content(OLD), FILE.content(NEW)
    kept, clock = made.system.snapshot(), made.system.machine.clock
    begin = clock.retired
    assert made.run().reason == "halt"
    assert made.output == old
    length, cut = clock.retired - begin, 0
    for instant in range(0, length, max(1, length // POINTS)):
        made.system.restore(kept)
        made.printed.clear()
        del made.processes[1:]
        reader = made.kernel.state.tasks.processes[made.processes[0].number]
        if instant:
            made.run(fuel=instant)
        made.system.unplug(0)
        made.system.plug(0, MemoryMedium(NEW))
        assert made.run().reason == "halt"
        read = made.output
        assert reader.exit_code in TOLD, (instant, reader.exit_code)
        assert old.startswith(read) or (read == new and reader.exit_code == 0), instant
        assert reader.exit_code or len(read) == len(old), instant
        cut += reader.exit_code > 0
        made.printed.clear()
        made.start("reader", "e/d0/f")
        attention(made)
        assert made.run().reason == "halt"
        assert made.output == new, instant
        assert made.kernel.check() == [], instant
        assert made.unaccounted() == [], instant
    assert cut > POINTS // 4
