"""Files in every layout on the disk that a server may find: readers always have the same bytes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_WINDOW_BYTES
from callgate.kernel.servers import volumes

Sessions = Callable[..., Any]
SECTORS = 8192
WAYS = "rptb"
BEGINNING = 3 * 512
NINE = 9
WORD = 0xFFFF_FFFF
TAIL = 4 * 10_007  # bytes that the program `tails` reads


Layout = synthetic.Layout
IMAGE = synthetic.disk(SECTORS)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files of the synthetic disk, for the test to fill."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {}
    synthetic.Synthetic.released = []
    synthetic.Synthetic.held = {}
    return synthetic.Synthetic.files


def read(session: Sessions, way: str, name: str, **options: Any) -> Any:
    made = session(MemoryMedium(IMAGE), programs=[("reader", f"{way}/d0/{name}")], **options)
    assert made.run().reason == "halt"
    return made


def scattered(seed: int, largest: int, sectors: int) -> list[tuple[int | None, int]]:
    """Return runs of random places and lengths, some of them holes."""
    source = random.Random(seed)
    runs: list[tuple[int | None, int]] = []
    while sum(count for _, count in runs) < sectors:
        count = source.randrange(1, largest)
        hole = source.random() < 0.2
        runs.append((None if hole else source.randrange(8, SECTORS - count), count))
    return runs


LAYOUTS = {
    "aligned": ([(64, 600)], 600 * 512),
    "aligned, ends within a sector": ([(64, 600)], 599 * 512 + 100),
    "begins at an odd sector": ([(67, 600)], 600 * 512 - 7),
    "begins at the last sector of a block": ([(71, 600)], 300_000),
    "two pieces, alike": ([(64, 64), (640, 64)], 128 * 512),
    "two pieces, not alike": ([(64, 64), (643, 64)], 128 * 512),
    "a piece that ends within a page": ([(64, 61), (200, 67)], 128 * 512),
    "single sectors": ([(8 + 16 * index, 1) for index in range(300)], 300 * 512 - 1),
    "all a hole": ([(None, 500)], 500 * 512 - 300),
    "a hole at the beginning": ([(None, 30), (67, 100)], 130 * 512),
    "a hole within a page": ([(64, 3), (None, 2), (69, 100)], 105 * 512),
    "a hole at the end": ([(64, 100), (None, 31)], 131 * 512 - 1),
    "the same sectors again and again": ([(64, 8)] * 30, 240 * 512),
    "backwards": ([(4000 - 8 * index, 8) for index in range(50)], 400 * 512),
    "scattered 1": (scattered(1, 3, 800), 800 * 512),
    "scattered 2": (scattered(2, 12, 400), 400 * 512 - 511),
    "scattered 3": (scattered(3, 60, 400), 400 * 512),
}


@pytest.mark.thorough(one_in=14)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("most", [506, 40, NINE, 1])
def test_a_file_of_every_layout_is_read_right_however_little_a_reply_brings(
    session: Sessions, files: dict[str, Any], way: str, most: int, some_of: Callable[[list[int], int], list[int]]
) -> None:
    for index, (runs, size) in enumerate(LAYOUTS.values()):
        files[f"f{index}"] = Layout(size, runs, most)
    # Every layout with every count, and every way with one of them.
    indices = [index for index in range(len(LAYOUTS)) if index % 4 == WAYS.index(way) or most == NINE]
    for index in some_of(indices, 2):
        title = list(LAYOUTS)[index]
        made = read(session, way, f"f{index}")
        assert made.codes == [0], (title, made.log)
        assert made.output == files[f"f{index}"].content(IMAGE), title
        assert made.unaccounted() == [], title
        made.system.close()


def first_reads(size: int) -> list[int]:
    """Return bytes to begin at that lie at, beside and between the boundaries of sectors and pages."""
    marks = [0, 511, 512, 4095, 4096, 4097, 2 * 4096 + 1536, size // 2, size - 4096, size - 512, size - 1, size]
    return sorted({mark for mark in marks if 0 <= mark <= size})


@pytest.mark.thorough(one_in=10)
@pytest.mark.parametrize("title", LAYOUTS)
@pytest.mark.parametrize("most", [506, NINE])
def test_a_reader_that_begins_in_the_middle_of_a_file_reads_the_same_data(
    session: Sessions, files: dict[str, Any], title: str, most: int
) -> None:
    """Where a file's pages begin is learned from its first data, wherever in the file they are."""
    runs, size = LAYOUTS[title]
    begins = first_reads(size)
    for begin in begins:
        files[f"{begin:08x}"] = Layout(size, runs, most)
    made = session(MemoryMedium(IMAGE), programs=[("tails", "".join(files))])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    content = files["00000000"].content(IMAGE)
    assert made.output == b"".join(content[begin : begin + TAIL] for begin in begins)
    assert made.unaccounted() == []


def test_the_end_of_an_object_can_be_read_first(session: Sessions, files: dict[str, Any]) -> None:
    size = 3 * 4096 + 5
    files[f"{size - 4:08x}"] = Layout(size, [], kind="object")
    made = session(MemoryMedium(IMAGE), programs=[("tails", *files)])
    made.run()
    assert made.output == bytes(index * 7 % 251 for index in range(size - 4, size))
    assert made.unaccounted() == []


def test_nothing_is_read_past_the_end_of_a_file(session: Sessions, files: dict[str, Any]) -> None:
    size = 3 * 4096 + 5
    for begin in (size - 1, size, size + 1, 4 * 4096, 1 << 31, WORD):
        files[f"{begin:08x}"] = Layout(size, [(67, 25)])
    files["00000000"] = Layout(0, [])
    files["00000001"] = Layout(0, [])
    made = session(MemoryMedium(IMAGE), programs=[("tails", "".join(files))])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.output == IMAGE[67 * 512 + size - 1 :][:1]
    assert made.counters.requests == 2, "both for the last byte: where pages begin, and from there on"
    assert made.unaccounted() == []


def test_a_server_is_told_which_data_no_program_has_accessed_for_a_while(
    session: Sessions, files: dict[str, Any]
) -> None:
    """While the file is open, its reader sleeps and nothing else happens."""
    files["made"] = Layout(12_345, [], kind="object")
    made = session(MemoryMedium(IMAGE), programs=[("idler", "/d0/made")])
    made.reach("idler", "looked")
    assert [file.opens for file in made.kernel.files.objects.values()] == [1]
    assert (len(synthetic.Synthetic.released), synthetic.Synthetic.held) == (1, {})
    made.run()
    assert made.output == bytes(index * 7 % 251 for index in range(4096))
    assert made.unaccounted() == []


def test_a_file_at_any_sector_is_mapped_and_not_copied(session: Sessions, files: dict[str, Any]) -> None:
    files["odd"] = Layout(600 * 512, [(67, 600)])
    made = read(session, "p", "odd")
    assert made.output == files["odd"].content(IMAGE)
    # Its first and its last page hold neighbours as well; nothing else is copied.
    assert made.counters.copied_pages == 2
    touched = made.system.machine.ledger.counts().cpu_file_bytes
    assert touched["server"] == 0


def test_data_beside_a_file_on_the_disk_are_never_seen(session: Sessions, files: dict[str, Any]) -> None:
    """Rule 7, checked for every byte of every page that the window shows."""
    files["odd"] = Layout(9 * 512 + 100, [(67, 10)])
    made = session(MemoryMedium(IMAGE), programs=[("pages", "/d0/odd")])
    made.run()
    content = files["odd"].content(IMAGE)
    shift = 3 * 512
    assert made.output == (bytes(shift) + content).ljust(2 * 4096, b"\0")


def test_mapping_edges_as_they_are_leaks_data_beside_the_file(session: Sessions, files: dict[str, Any]) -> None:
    files["odd"] = Layout(9 * 512 + 100, [(67, 10)])
    made = session(MemoryMedium(IMAGE), programs=[("pages", "/d0/odd")], map_edges=True)
    made.run()
    assert made.output == IMAGE[64 * 512 : 80 * 512]
    assert made.counters.copied_pages == 0


def test_a_file_of_five_gibibytes_is_read_at_its_far_end(session: Sessions, files: dict[str, Any]) -> None:
    gap = (5 << 30) // 512
    size = (5 << 30) + 1000 * 512
    files["huge"] = Layout(size, [(64, 8), (None, gap - 8), (72, 1000)])
    made = session(MemoryMedium(IMAGE), programs=[("seeker", "/d0/huge")])
    made.run()
    assert made.codes == [0], made.log
    far = IMAGE[72 * 512 : 1072 * 512]
    pieces = [IMAGE[64 * 512 : 64 * 512 + 100], bytes(100), far[:100], far[-100:], IMAGE[64 * 512 : 64 * 512 + 100]]
    assert made.output == b"".join(pieces)
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("before", [100, 512, 4000])
def test_a_window_may_end_before_the_first_data_that_are_read(
    session: Sessions, files: dict[str, Any], before: int
) -> None:
    """Where pages begin is learned with them: what the window just showed may then lie beyond it."""
    window = FILE_WINDOW_BYTES
    begin = window - before
    runs: list[tuple[int | None, int]] = [(None, window // 512 - 8), (67, 600)]
    files[f"{begin:08x}"] = Layout(window + 500 * 512, runs)
    made = session(MemoryMedium(IMAGE), programs=[("tails", f"{begin:08x}")])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.output == IMAGE[75 * 512 - before :][:TAIL]
    assert made.unaccounted() == []


def test_memory_of_a_server_is_mapped_for_readers_and_given_back(session: Sessions, files: dict[str, Any]) -> None:
    size = 506 * 4096 + 12_345
    files["made"] = Layout(size, [], kind="object")
    made = read(session, "p", "made")
    assert made.output == bytes(index * 7 % 251 for index in range(size))
    assert synthetic.Synthetic.held == {}
    assert len(synthetic.Synthetic.released) == 2
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("fails_at", [0, 512, 4096, 5000 // 512 * 512, 300 * 512])
def test_data_before_a_bad_sector_are_read_before_the_error(
    session: Sessions, files: dict[str, Any], fails_at: int
) -> None:
    files["broken"] = Layout(600 * 512, [(64, 600)], fails_at=fails_at)
    made = read(session, "e", "broken")
    assert made.codes == [112]  # 100 + CORRUPT
    assert made.output == files["broken"].content(IMAGE)[:fails_at]
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("bad", [0, 7, 8, 300, 595, 599])
def test_a_sector_that_cannot_be_read_is_an_error_only_at_its_page(
    session: Sessions, files: dict[str, Any], bad: int
) -> None:
    """Although it is in the middle of a command for many pages."""
    files["worn"] = Layout(600 * 512, [(200, 600)])
    medium = FaultInjecting(MemoryMedium(IMAGE), bad=[200 + bad])
    made = session(medium, programs=[("reader", "e/d0/worn")])
    made.run()
    assert made.codes == [100 + ErrorCode.IO_ERROR]
    assert made.output == IMAGE[200 * 512 :][: bad // 8 * 4096]
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("seed", range(6))
def test_bad_sectors_are_an_error_for_every_program_that_reads_them_and_for_no_other(
    session: Sessions, files: dict[str, Any], seed: int
) -> None:
    source = random.Random(seed)
    files["worn"] = Layout(900 * 512, scattered(seed, source.choice([3, 12, 60]), 900), source.choice([506, 40, 5]))
    files["well"] = Layout(600 * 512, [(6500 + seed, 600)])
    places = [first for first, _ in files["worn"].runs[5:] if first is not None and 200 < first < 6400]
    medium = FaultInjecting(MemoryMedium(IMAGE), bad=source.sample(places, 2))
    programs = [("reader", f"{way}/d0/{name}") for name in ("worn", "well") for way in "cke"]
    latency = Latency(command=30_000, sector=10, reorder=True)
    made = session(medium, programs=programs, latency=latency, high_memory=2 << 20)
    assert made.run().reason == "halt"
    bad = 100 + ErrorCode.IO_ERROR
    assert made.codes == [bad, 128 + 11, bad, 0, 0, 0], made.log
    assert made.unaccounted() == []


def test_a_server_that_returns_no_data_is_an_error(session: Sessions, files: dict[str, Any]) -> None:
    files["empty"] = Layout(5000, [])
    made = read(session, "e", "empty")
    assert made.codes[0] is not None
    assert made.codes[0] > 100
    assert made.output == b""
    assert made.unaccounted() == []


@pytest.mark.thorough(only=True)
def test_completions_in_any_order_give_the_same_file(session: Sessions, files: dict[str, Any]) -> None:
    """Many small commands in flight, which the drive finishes in an order of its own (NCQ)."""
    source = random.Random(7)
    files["torn"] = Layout(500 * 4096, [(first, 8) for first in source.sample(range(8, SECTORS - 8, 24), 300)] * 2)
    files["torn"].size = 600 * 4096
    latency = Latency(command=90_000, sector=10, reorder=True)
    made = session(MemoryMedium(IMAGE), programs=[("reader", "p/d0/torn")], latency=latency, trace=True)
    assert made.run().reason == "halt"
    assert made.output == files["torn"].content(IMAGE)
    submitted = [event.fields["request"] for event in made.events if event.kind == "disk.submit"]
    finished = [event.fields["request"] for event in made.events if event.kind == "disk.done"]
    assert sorted(map(str, submitted)) == sorted(map(str, finished))
    assert submitted != finished, "the drive must have had its own order"
    flight = most = 0
    for event in made.events:
        flight += (event.kind == "disk.submit") - (event.kind == "disk.done")
        most = max(most, flight)
    assert most >= 32
    assert made.unaccounted() == []


def test_neighbours_on_the_disk_are_read_by_one_command(session: Sessions, files: dict[str, Any]) -> None:
    # Eight-sector pieces in reverse: sorted, they are one run.
    files["backwards"] = Layout(100 * 4096, [(4000 - 8 * index, 8) for index in range(100)])
    made = session(MemoryMedium(IMAGE), programs=[("reader", "p/d0/backwards")], trace=True)
    made.run()
    assert made.output == files["backwards"].content(IMAGE)
    first = next(index for index, event in enumerate(made.events) if event.kind == "ipc.reply" and index > 0)
    commands = [event for event in made.events[first:] if event.kind == "disk.submit"]
    assert len(commands) <= 3, "56 pages are the most that one command takes"
