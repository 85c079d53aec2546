"""Threads of one program that race for its handles, locks and memory: what one closes, another is waiting for.

CALLGATE_RACES says for how many seeds.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image

HELD = 0
SEEDS = int(os.environ.get("CALLGATE_RACES", "3"))
CALLS = 300  # of each of four threads
SLICE = 40_000  # instructions, at most

Arenas = Callable[..., Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("races")
    for index, size in enumerate((0, 700, 5000, 60_000)):
        (folder / f"F{index:03}").write_bytes(bytes([index]) * size)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=8 << 20)
    return out


@pytest.mark.parametrize("seed", range(SEEDS))
def test_threads_that_race_for_handles_and_memory_leave_nothing_and_harm_no_other(
    arena: Arenas, image: Path, seed: int
) -> None:
    chance = random.Random(seed)
    made = arena(image, latency=Latency(command=chance.choice([0, 5000, 50_000]), sector=20))
    made.victim()
    made.wanted.append(lambda: made.attackers.append(made.start("racers", b"%04x" % seed, CALLS=CALLS)))
    while made.run(fuel=chance.randrange(1, SLICE)).reason == "fuel":
        assert made.kernel.check() == []
    assert made.results == [HELD], made.log
    made.assert_unharmed()
    assert made.kernel.check() == []
