"""Every function of every gate with arguments of every kind: errors are returned, and nothing stays held.

CALLGATE_RANDOM_CALLS is how many calls are made through each kind of gate (default 8,000); the checks of a change make
100,000.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium

HELD = 0
CALLS = 4000
TOTAL = int(os.environ.get("CALLGATE_RANDOM_CALLS", "8000"))
SEEDS = range(0x1234, 0x1234 + max(2, -(-TOTAL // CALLS)))
VOLUME = 1  # the ROM has number 0, and the disk of these tests has no file system

Arenas = Callable[..., Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    (root / "D").mkdir()
    (root / "A.TXT").write_bytes(b"what others read\n")
    create_image(root.parent / "a.img", root, fs="fat16", size=16 << 20)
    return root.parent / "a.img"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_argument_of_a_system_call_or_request_harms_the_kernel(arena: Arenas, image: Path, seed: int) -> None:
    made = arena(image)
    made.victim()
    made.wanted.append(lambda: made.attackers.append(made.start("caller", b"%04x" % seed, CALLS=CALLS)))
    calls = made.kernel.machine.ledger.counts().client_gates
    assert made.run().reason == "halt"
    assert made.results == [HELD], made.log
    assert made.kernel.machine.ledger.counts().client_gates - calls > CALLS * 3 // 4
    assert not any(line.startswith("process") for line in made.log), made.log
    made.assert_unharmed()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_argument_of_a_server_call_harms_the_kernel(arena: Arenas, seed: int) -> None:
    made = arena(MemoryMedium(bytes(64 << 10)))

    def serve() -> None:
        server = made.server("random_server", "evil", CALLS=CALLS, SEED=seed * 0x9E3779B1 & 0x7FFFFFFF)
        server.disk, server.start, server.sectors = made.kernel.disks.key(made.kernel.disks.present()[0]), 8, 100

    made.wanted.append(serve)
    made.victim()
    for _ in range(3):
        made.attacker("requester", VOLUME)
    calls = made.kernel.machine.ledger.counts().server_gates
    assert made.run().reason == "halt"
    assert made.results == [HELD] * 3, made.log
    assert made.kernel.machine.ledger.counts().server_gates - calls > CALLS * 3 // 4
    assert not any("ring 0" in line for line in made.log), made.log
    made.assert_unharmed()
