"""Several processes read several files here and there, with too little memory for all: every byte is right."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel import volumes

Sessions = Callable[..., Any]
SECTORS = 16_384
IMAGE = synthetic.disk(SECTORS)
WORD = 0xFFFF_FFFF
READS = 30
READERS = 6
REORDERED = Latency(command=50_000, sector=20, reorder=True)


class Generator:
    """What the program `prober` does, in Python."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def next(self) -> int:
        self.seed = (self.seed * 1664525 + 1013904223) & WORD
        return self.seed

    def hash(self, content: bytes, reads: int) -> int:
        value = 0
        for _ in range(reads):
            begin = self.next() % len(content)
            size = (self.next() >> 8 & 8191) + 1
            for byte in content[begin : begin + size]:
                value = (value << 5 | value >> 27) & WORD ^ byte
        return value


def layout(source: random.Random) -> synthetic.Layout:
    """Return a file of up to 2.5 MB in pieces that lie anywhere, on the disk and in holes."""
    runs: list[tuple[int | None, int]] = []
    longest = source.choice([1, 8, 60, 1000])
    for _ in range(source.randrange(1, 5000 // longest + 2)):
        count = source.randrange(1, longest + 1)
        first = source.randrange(8, SECTORS - count)
        if source.random() < 0.5:
            first = first // 8 * 8
        runs.append((None if source.random() < 0.15 else first, count))
    sectors = sum(count for _, count in runs)
    return synthetic.Layout(sectors * 512 - source.randrange(512), runs, source.choice([506, 506, 40, 5]))


@pytest.mark.parametrize("high_memory", [1 << 20, 64 << 20])
@pytest.mark.parametrize("seed", range(4))
def test_everybody_reads_what_is_there(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, seed: int, high_memory: int
) -> None:
    source = random.Random(seed)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {f"f{number}": layout(source) for number in range(3)}
    synthetic.Synthetic.released = []
    synthetic.Synthetic.held = {}
    readers = [(source.randrange(1 << 32), f"f{source.randrange(3)}") for _ in range(READERS)]
    programs = [("prober", f"{first:08x}{READS:08x}/d0/{name}") for first, name in readers]
    made = session(MemoryMedium(IMAGE), programs=programs, high_memory=high_memory, latency=REORDERED)
    assert made.run().reason == "halt"
    contents = {name: file.content(IMAGE) for name, file in synthetic.Synthetic.files.items()}
    assert made.codes == [Generator(first).hash(contents[name], READS) for first, name in readers], made.log
    assert made.unaccounted() == []
