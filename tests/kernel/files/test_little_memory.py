"""Reading with hardly any low memory: a reader without memory has an error, none hangs, nothing stays held."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes

Sessions = Callable[..., Any]
SECTORS = 4096
IMAGE = synthetic.disk(SECTORS)
SLOW = Latency(command=20_000, sector=10, reorder=True)
PLENTY = 300
ENDS = {0, 100 + ErrorCode.NO_MEMORY, 128 + 11}


def scattered(seed: int, count: int) -> list[tuple[int | None, int]]:
    """Return single blocks that lie far from each other, some of them ragged."""
    source = random.Random(seed)
    return [(source.randrange(1, SECTORS // 8 - 1) * 8 + source.choice([0, 0, 3]), 8) for _ in range(count)]


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 80, 120, PLENTY])
def test_readers_with_few_frames_of_low_memory_read_the_right_data(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {
        "a": synthetic.Layout(300_000, scattered(1, 80)),
        "b": synthetic.Layout(90_000, [(67, 180)]),
    }
    synthetic.Synthetic.released, synthetic.Synthetic.held = [], {}
    made = session(
        MemoryMedium(IMAGE), programs=[("reader", "e/d0/a"), ("reader", "t/d0/b"), ("reader", "c/d0/a")], latency=SLOW
    )
    made.reach("reader", "start")
    pool = made.kernel.memory.low
    taken = [pool.allocate() for _ in list(pool.free)]
    pool.limit = pool.next + frames * 4096
    assert made.run().reason == "halt"
    for frame in taken:
        pool.release(frame)
    assert set(made.codes) <= ENDS, made.codes
    assert frames < PLENTY or made.codes == [0, 0, 0]
    assert made.unaccounted() == []
