"""Several processes read several files at random, with too little memory for all: every byte is right."""

import os
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.file import FILE_AREAS, FilePage
from callgate.kernel.file_data.objects import publish
from callgate.kernel.servers import volumes

SEEDS = int(os.environ.get("CALLGATE_SEEDS", "1"))  # how many runs; the checks of a change make more
Sessions = Callable[..., Any]
SECTORS = 16_384
IMAGE = synthetic.disk(SECTORS)
WORD = 0xFFFF_FFFF
READS = 30
READERS = 6
SEED = 0x51C3
LOOKS = 5
FILE_POSITION, FILE_NEAR = 20, 48  # offsets of fields of File (asm/user/library/file.asm)
REORDERED = Latency(command=50_000, sector=20, reorder=True)


class Generator:
    """The program `prober`, in Python."""

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


@pytest.mark.thorough(one_in=6)
@pytest.mark.parametrize(("high_memory", "map_edges"), [(1 << 20, False), (1 << 20, True), (64 << 20, False)])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_readers_of_every_layout_read_the_right_data(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, seed: int, high_memory: int, map_edges: bool
) -> None:
    source = random.Random(seed)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {f"f{number}": layout(source) for number in range(3)}
    synthetic.Synthetic.released = []
    synthetic.Synthetic.held = {}
    readers = [(source.randrange(1 << 32), f"f{source.randrange(3)}") for _ in range(READERS)]
    programs = [("prober", f"{first:08x}{READS:08x}/d0/{name}") for first, name in readers]
    made = session(
        MemoryMedium(IMAGE), programs=programs, high_memory=high_memory, map_edges=map_edges, latency=REORDERED
    )
    assert made.run().reason == "halt"
    contents = {name: file.content(IMAGE) for name, file in synthetic.Synthetic.files.items()}
    assert made.codes == [Generator(first).hash(contents[name], READS) for first, name in readers], made.log
    assert made.unaccounted() == []


def look_around(
    session: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    file: synthetic.Layout,
    reads: int,
    *others: tuple[str, str],
    latency: Latency | None = None,
) -> Any:
    """Boot with one file and a random reader; run to its first instruction."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"f": file}
    made = session(
        MemoryMedium(IMAGE), programs=[("prober", f"{SEED:08x}{reads:08x}/d0/f"), *others], latency=REORDERED
    )
    made.reach("prober", "start")
    return made


@pytest.mark.thorough(only=True)
def test_more_areas_than_a_file_page_can_list_are_read_right(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Areas for which it has no room are requested."""
    file = synthetic.Layout(64_000 * 512 - 5, [(67, 16_000), (None, 48_000)], 2)
    made = look_around(session, monkeypatch, file, 600, ("idler", "/d0/f"))  # which has it open all the time
    listed = most = 0
    while made.run(fuel=300_000).reason != "halt":
        for found in made.kernel.files.objects.values():
            page = FilePage.from_buffer_copy(made.system.machine.ram.view(found.frame, 4096))
            listed, most = max(listed, page.count), max(most, len(found.spans))
    assert listed == FILE_AREAS
    assert most > FILE_AREAS + 50
    assert made.codes[0] == Generator(SEED).hash(file.content(IMAGE), 600), made.log
    assert made.unaccounted() == []


@pytest.mark.thorough(only=True)
def test_every_area_that_a_window_shows_is_listed_in_the_file_page(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has left too many gaps is given more than it asks for: reading there again takes no system call."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"f": synthetic.Layout(63 << 20, [(None, 63 << 11)])}
    made = session(MemoryMedium(IMAGE), programs=[("islands", "/d0/f")])
    counts = []
    for label in ("again", "looked"):
        made.reach("islands", label)
        counts.append(made.system.machine.ledger.counts())
        (file,) = made.kernel.files.objects.values()
        assert FILE_AREAS // 2 < len(file.areas()) <= FILE_AREAS
        made.system.machine.step()
    assert (counts[1] - counts[0]).sites.get("client_gates", 0) == 0
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log


@pytest.mark.thorough(only=True)
def test_a_file_larger_than_a_window_is_read_right_at_every_position(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window moves back and forth; areas are cut to it."""
    file = synthetic.Layout(400_000 * 512 - 5, [(67, 8_000), (None, 192_000), (9, 16_000), (None, 184_000)])
    made = look_around(session, monkeypatch, file, 150)
    assert made.run().reason == "halt"
    assert made.codes == [Generator(SEED).hash(file.content(IMAGE), 150)], made.log
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("far", [False, True])
def test_a_page_that_changes_at_any_instruction_of_a_reader_is_never_misread(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, far: bool, some_of: Callable[[range, int], list[int]]
) -> None:
    """A range comes while another is being looked for: those after it move up, and the look-up starts again.

    Both ways of looking: as if it were not known that the window shows the whole file, too.
    """
    file = synthetic.Layout(3200 * 512, [(8 * (3 + 5 * index), 8) for index in range(400)], 3)
    made = look_around(session, monkeypatch, file, 400)
    kernel, machine = made.kernel, made.system.machine
    looked = 0
    while looked < len(some_of(range(LOOKS), 2)):
        machine.step()
        assert made.run(until=made.label("prober", "find_area")).reason == "until"
        memory = kernel.processes.memory_of(made.kernel.scheduler.current.process)
        (position,) = struct.unpack("<Q", memory.read(made.label("prober", "file") + FILE_POSITION, 8))
        (back,) = struct.unpack("<I", memory.read(machine.cpu.esp, 4))
        (found,) = kernel.files.objects.values()
        covering = found.covering(position)
        if covering is None or covering is found.spans[0] or len(found.areas()) < 5:
            continue
        looked += 1
        if far:
            memory.write(made.label("prober", "file") + FILE_NEAR, bytes(4))
        kept = made.system.snapshot()
        instructions = 0
        while instructions >= 0:
            made.system.restore(kept)
            (found,) = kernel.files.objects.values()
            first = found.spans.pop(0)
            publish(kernel.guest.ram, found)
            if instructions:
                machine.step(instructions)
            instructions = -1 if machine.cpu.eip == back else instructions + 1
            found.spans.insert(0, first)
            publish(kernel.guest.ram, found)
            if instructions >= 0:
                assert made.run(until=back).reason == "until"
            (area,) = [(start, size) for start, size in found.areas() if start <= position < start + size]
            assert machine.cpu.ecx == sum(area) - position, instructions
        made.system.restore(kept)
