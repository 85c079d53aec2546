"""Memory for what is read: a family counts what it has on its way, and waits for others for a bounded time."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import silent_servers
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.file_data.hunger import STARVED_LIMIT
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.servers import volumes
from callgate.kernel.tasks import shares

Sessions = Callable[..., Any]
IMAGE = synthetic.disk(4096)
SLOW = Latency(command=20_000, sector=10, reorder=True)
APART: list[tuple[int | None, int]] = [(place * 8, 8) for place in random.Random(1).sample(range(1, 500), 80)]


def test_a_reader_waits_a_limited_time_for_memory_that_others_may_release(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is full, and the thread that might leave room for more waits for a server that does not answer."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [silent_servers.Silent])
    monkeypatch.setattr(silent_servers.Silent, "silent", frozenset({Operation.READ}))
    monkeypatch.setattr(silent_servers.Silent, "answered", [])
    made = session(MemoryMedium(IMAGE), programs=[("reader", "e/d0/f")], high_memory=1 << 20)
    assert made.run(until=lambda: made.kernel.state.files.waiting).reason == "until"
    monkeypatch.setattr(silent_servers.Silent, "silent", frozenset())
    monkeypatch.setattr(
        silent_servers.Silent, "files", {"f": synthetic.Layout(1, [(8, 8)]), "g": synthetic.Layout(1, [(16, 8)])}
    )
    pool = made.kernel.memory.high
    taken = [pool.allocate() for _ in range(pool.available)]
    begin = made.system.machine.clock.now
    starved = made.start("reader", "e/d0/g")
    assert made.run(until=lambda: starved.exit_code is not None).reason == "until"
    assert starved.exit_code == 100 + ErrorCode.NO_MEMORY
    assert STARVED_LIMIT <= made.system.machine.clock.now - begin < STARVED_LIMIT * 1.1
    for frame in taken:
        pool.release(frame)


@pytest.mark.parametrize("spare", [0, 1])
def test_a_list_of_sectors_counts_as_memory_of_the_family_that_reads(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """A family that has all its memory posts no READ; with a page to spare it does, and has nothing more."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"A.BIN": synthetic.Layout(300_000, APART)}
    made = session(MemoryMedium(IMAGE), programs=[("doer", "u")], latency=SLOW)
    made.reach("doer", "before")
    (process,) = made.processes
    (file,) = made.kernel.files.objects.values()
    made.kernel.span_records.reserve(made.kernel.state.endpoints.by_number[file.endpoint])  # a page of the server's
    pool = made.kernel.memory.low
    monkeypatch.setattr(limits, "FRAMES_OF_FAMILY_PART", 1)
    kept, pool.limit = pool.limit, pool.start + (shares.frames_of(process) + spare) * 4096
    assert pool.total == shares.frames_of(process) + spare
    made.run(until="ipc.post" if spare else None)
    assert len(made.kernel.state.files.waiting) == spare
    if spare:
        assert made.kernel.state.tasks.lists == {process.family: 1}
        with pytest.raises(OutOfMemory):
            made.kernel.shares.check_list(process)
    pool.limit = kept
    assert made.run().reason == "halt"
    assert made.counters.requests == spare
    assert made.codes == [0 if spare else 100 + ErrorCode.NO_MEMORY]
    assert made.kernel.state.tasks.lists == {}
    assert made.unaccounted() == []
