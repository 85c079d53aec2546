"""Several processes write at random, with too little memory for all: no change is lost, no neighbour changes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes

Sessions = Callable[..., Any]
SECTORS = 8192
IMAGE = synthetic.disk(SECTORS)
WORD = 0xFFFF_FFFF
ERROR = 0x8000_0000
WRITES = 32
BEHIND = 16  # bytes that are read after each write
SECTOR, PAGE = 512, 4096
PER_PAGE = PAGE // SECTOR
READ = 3000  # sectors of a file that is only read, more than the cache has room for
QUICK = Latency(command=2_000, sector=10, reorder=True)


class Scribbler:
    """The changes of a file by the program `scribbler`, in Python."""

    def __init__(self, seed: int, content: bytes, writable: list[bool]) -> None:
        self.seed = seed
        self.content = bytearray(content)
        self.writable = writable
        self.hash = 0

    def next(self) -> int:
        self.seed = (self.seed * 1664525 + 1013904223) & WORD
        return self.seed

    def write(self) -> None:
        position = self.next() % len(self.content)
        what = self.next()
        end = min(position + (what >> 8 & 8191) + 1, len(self.content))
        at = position
        while at < end and self.writable[at // SECTOR]:
            at = min(end, (at // SECTOR + 1) * SECTOR)
        self.content[position:at] = bytes([what >> 24]) * (at - position)
        self.add_to_hash(at - position or ERROR | ErrorCode.COPIED_PAGE)
        self.add_to_hash(at)
        for byte in self.content[at : at + BEHIND]:
            self.add_to_hash(byte)

    def add_to_hash(self, value: int) -> None:
        self.hash = (self.hash << 5 | self.hash >> 27) & WORD ^ value


def layout(source: random.Random, at: int) -> tuple[synthetic.Layout, list[bool]]:
    """Return a file whose pieces begin at whole blocks after `at`, and for each sector whether it can be written to.

    Some pieces end within a block, and a hole fills the rest of the page; some pages share two blocks.
    """
    runs: list[tuple[int | None, int]] = []
    writable: list[bool] = []
    while len(writable) < 160:
        pages = source.randrange(1, 12)
        kind = source.randrange(4)
        if kind == 0:
            runs.append((None, PER_PAGE))
        elif kind == 1:
            short = source.randrange(1, PER_PAGE)
            runs += [(at, short), (None, PER_PAGE - short)]
        elif kind == 2:
            short = source.randrange(1, PER_PAGE)
            runs += [(at, short), (at + PER_PAGE + short, PER_PAGE - short)]
        else:
            runs.append((at, pages * PER_PAGE))
        count = pages * PER_PAGE if kind == 3 else PER_PAGE
        writable += [kind == 3] * count
        at += count + source.choice([1, 2]) * PER_PAGE
    runs.append((at, 3))
    writable += [False] * 3
    size = len(writable) * SECTOR - source.randrange(SECTOR)
    return synthetic.Layout(size, runs, source.choice([506, 40, 5])), writable


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("map_edges", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_every_reader_finds_what_was_written(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, seed: int, map_edges: bool
) -> None:
    """With data that age or are evicted, through either window; and only where the file can be written."""
    source = random.Random(seed)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "attributes", FileAttributes(0))
    files = {"a": layout(source, 64), "b": layout(source, 2048)}
    synthetic.Synthetic.files = {name: file for name, (file, _) in files.items()}
    synthetic.Synthetic.files["c"] = synthetic.Layout(READ * SECTOR, [(4096, READ)])
    models = [Scribbler(source.randrange(1 << 32), file.content(IMAGE), whole) for file, whole in files.values()]
    arguments = [f"{model.seed:08x}{WRITES:08x}/d0/{name}" for model, name in zip(models, files, strict=True)]
    programs = [*(("scribbler", argument) for argument in arguments), ("prober", f"{seed:08x}{WRITES:08x}/d0/c")]
    made = session(
        MemoryMedium(IMAGE), programs=programs, scratch=True, high_memory=1 << 20, map_edges=map_edges, latency=QUICK
    )
    assert made.run().reason == "halt"
    for model in models:
        for _ in range(WRITES):
            model.write()
    assert made.codes[:2] == [model.hash for model in models], made.log

    # The disk as programs would find it now.
    cache, ram = made.kernel.cache.state, made.system.machine.ram
    image = bytearray(IMAGE)
    for (_, number), block in cache.blocks.items():
        at, data = number * PAGE, ram.read(block.frame, PAGE)
        assert block.changed or data == IMAGE[at : at + PAGE], number
        image[at : at + PAGE] = data
    assert [file.content(bytes(image)) for file, _ in files.values()] == [bytes(model.content) for model in models]
    assert cache.changed == sum(block.changed for block in cache.blocks.values()) > 0
    assert cache.evictions > 0
    assert made.unaccounted() == []
