"""Families whose ancestors are dead take all they can: together they have one share, and others have theirs.

A process starts children and ends, and so do they, down to the generation that allocates and keeps (`kin.asm`).
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.records import Process
from callgate.kernel.ipc.deferred_releases import BEHIND_LIMIT
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.tasks import shares

HELD = 0
WIDTH, DEPTH = 2, 3
LEAVES = WIDTH**DEPTH
LARGE = 1 << 20  # bytes of a file that is not a program
TAKERS = ("files", "directories", "threads", "heap", "reads", "faults", "floods")
FUEL = 100_000_000
Arenas = Callable[..., Any]
Families = Callable[..., Any]


@pytest.fixture
def family(arena: Arenas, program_file: Callable[..., bytes], tmp_path: Path) -> Families:
    """Boot a disk with the program and a large file, and have the family take `what`; its number is the first's."""

    def make(what: str, **options: Any) -> Any:
        defines = {"WIDTH": WIDTH, "DEPTH": DEPTH, "WHAT": TAKERS.index(what), "BYTES": LARGE}
        tree = tmp_path / what
        tree.mkdir()
        (tree / "KIN").write_bytes(program_file("kin", **defines))
        (tree / "LARGE").write_bytes(bytes(LARGE))
        (tree / "OTHER").write_bytes(bytes(LARGE // 16))
        create_image(tmp_path / "kin.img", tree, fs="fat16", size=8 << 20)
        made = arena(tmp_path / "kin.img", **options)
        made.wanted.append(lambda: made.attackers.append(made.start("kin", **defines)))
        return made

    return make


def members(made: Any) -> list[Process]:
    """Return the processes of the attackers' family: the last generation."""
    family = made.attackers[0].number
    processes = made.kernel.state.tasks.processes.values()
    return [process for process in processes if process.family == family and process.threads]


def attention(made: Any) -> None:
    """Have a CPU that may be halted look at what was changed from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


COUNTS: dict[str, tuple[str, int, Callable[[Process], int]]] = {
    "files": ("FILES_OF_FAMILY", 40, lambda process: len(process.files)),
    "directories": ("DIRECTORIES_OF_FAMILY", 40, lambda process: len(process.locks)),
    "threads": ("THREADS_OF_FAMILY", 40, lambda process: len(process.threads)),
}


@pytest.mark.parametrize("what", COUNTS)
def test_descendants_of_dead_processes_have_one_share_together_and_another_program_has_its_own(
    family: Families, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, limit, count = COUNTS[what]
    monkeypatch.setattr(limits, name, limit)
    made = family(what)
    assert made.run(FUEL).reason == "halt"
    assert made.results == [0]
    assert len(members(made)) == LEAVES or what == "threads"  # of which there are none left for the last children
    assert all(process.parent == 0 for process in members(made))
    assert sum(map(count, members(made))) == limit
    # One of them ends: its share is available to the family again, and only once.
    taker = max(members(made), key=count)
    taken = count(taker)
    made.kernel.processes.kill(taker, 9)
    attention(made)
    assert made.run(FUEL).reason == "halt"
    assert sum(map(count, members(made))) == limit - taken
    other = made.start("kin", b"%d" % DEPTH, WIDTH=1, DEPTH=DEPTH, WHAT=TAKERS.index(what), BYTES=LARGE)
    attention(made)
    assert made.run(FUEL).reason == "halt"
    assert count(other) == limit
    assert made.kernel.check() == []


def test_descendants_of_dead_processes_have_half_of_memory_together_and_another_program_starts(
    family: Families,
) -> None:
    made = family("heap", memory=16 << 20)
    assert made.run(FUEL).reason == "halt"
    half = made.kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART
    assert half - 40 <= sum(map(shares.frames_of, members(made))) <= half, "32 frames are taken at a time, and tables"
    victim = made.start("victim")
    attention(made)
    assert made.run(FUEL).reason == "halt"
    assert victim.exit_code == HELD


def test_descendants_of_dead_processes_read_programs_up_to_one_share(family: Families) -> None:
    made = family("files")
    assert made.run(FUEL).reason == "halt"
    kin, other = members(made), made.start("victim")
    check, loading = made.kernel.shares.check_loading, made.kernel.shares.loading
    loading[kin[0].family] = limits.PROGRAMS_LOADING_OF_FAMILY - 1
    for process in kin:
        check(process.number, 1)
        with pytest.raises(PolicyError) as refused:
            check(process.number, 2)
        assert refused.value.code is ErrorCode.NO_MEMORY
    check(other.number, limits.PROGRAM_BYTES)
    del loading[kin[0].family]


@pytest.mark.thorough(only=True)
def test_a_family_has_a_bounded_number_of_spans_on_their_way_and_others_can_read(
    family: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SPANS_OF_FAMILY", 1)
    made = family("reads", latency=Latency(command=5_000_000, sector=100))
    made.wanted.append(lambda: made.victims.append(made.start("whole_reader", b"/d0/OTHER\0")))
    most: list[int] = [0]
    reserve = made.kernel.sector_lists.reserve

    def watched(process: Process) -> int:
        family = reserve(process)
        if process.family == made.attackers[0].number:
            most.append(made.kernel.state.tasks.lists[family])
        return int(family)

    made.kernel.sector_lists.reserve = watched
    assert made.run(FUEL).reason == "halt"
    assert max(most) == 1
    assert made.kernel.state.tasks.lists == {}
    assert [victim.exit_code for victim in made.victims] == [HELD]


# A disk with three volumes: a family reads the large files of two of them without an end, another program the third.

COMMAND = 1_000_000  # nanoseconds that the disk takes for a request
START, SECTORS = 2048, 32768  # of the first volume, and of each
FLOOD = 8 << 20  # bytes of the files


@pytest.fixture
def flooded(arena: Arenas, program_file: Callable[..., bytes], tmp_path: Path) -> Any:
    """An arena with the family, on a disk whose files are larger than the cache."""
    defines = {"WIDTH": WIDTH, "DEPTH": DEPTH, "WHAT": TAKERS.index("floods"), "BYTES": FLOOD}
    disk = bytearray(START * 512)
    disk[510:512] = b"\x55\xaa"
    for number in range(3):
        tree = tmp_path / f"volume {number}"
        tree.mkdir()
        (tree / "LARGE").write_bytes(bytes(LARGE if number == 2 else FLOOD))
        (tree / "KIN").write_bytes(program_file("kin", **defines))
        create_image(tmp_path / "volume.img", tree, fs="fat16", size=SECTORS * 512)
        struct.pack_into("<4xB3xII", disk, 446 + 16 * number, 1, len(disk) // 512, SECTORS)
        disk += (tmp_path / "volume.img").read_bytes()
    made = arena(MemoryMedium(bytes(disk)), latency=Latency(command=COMMAND), high_memory=FLOOD // 4)
    made.wanted.append(lambda: made.attackers.append(made.start("kin", **defines)))
    return made


def test_a_family_that_floods_a_disk_with_requests_leaves_another_reader_its_turn(
    flooded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread waits for a request at most as long as the requests of those take that came before it."""
    monkeypatch.setattr("callgate.kernel.storage.disk_requests.REQUESTS_OF_DISK", 1)
    requests, clock = flooded.kernel.disk_requests, flooded.system.machine.clock
    arrived, granted, most = [], [], [0]
    read, fill = requests.read, requests._fill

    def watched_read(run: Any, frames: list[int]) -> Any:
        arrived.append(run.keys[0][1])
        return read(run, frames)

    def watched_fill(address: int, run: Any, frames: list[int]) -> None:
        granted.append(run.keys[0][1])
        most.append(sum(map(len, requests.state.waiting.values())))
        fill(address, run, frames)

    monkeypatch.setattr(requests, "read", watched_read)
    monkeypatch.setattr(requests, "_fill", watched_fill)
    assert flooded.system.run(until=lambda: len(granted) >= 40, fuel=5_000_000).reason == "until"
    reader, start, before = flooded.start("whole_reader", b"/d0p3/LARGE\0"), clock.now, len(granted)
    attention(flooded)
    assert flooded.system.run(until=lambda: reader.exit_code is not None, fuel=5_000_000).reason == "until"
    assert reader.exit_code == HELD
    third = sum(block * 8 >= START + 2 * SECTORS for block in granted[before:])
    assert third < len(granted) - before, "the family reads all the while"
    assert granted == arrived[: len(granted)], "each has its turn in order of arrival"
    assert max(most) == 2
    assert clock.now - start < third * (1 + max(most)) * COMMAND * 11 // 10


def test_descendants_of_dead_processes_share_one_familys_lines_in_the_log_and_others_have_their_own(
    family: Families,
) -> None:
    made = family("faults")
    assert made.run(FUEL).reason == "halt"
    assert made.results == [0]
    report = r"process \d+ \(KIN\) ended by #UD"
    lines = "\n".join(made.log).count("\n") + 1
    assert 1 <= sum(bool(re.match(report, entry)) for entry in made.log) < LEAVES
    assert lines < limits.LOG_BURST + limits.LOG_LINES_PER_SECOND + 8, "what the boot says, and one family's lines"
    other = made.start("kin", b"%d" % DEPTH, WIDTH=1, DEPTH=DEPTH, WHAT=TAKERS.index("faults"), BYTES=LARGE)
    attention(made)
    assert made.run(FUEL).reason == "halt"
    assert any(f"process {other.number} (kin) ended by #UD" in entry for entry in made.log)
    made.kernel.log.finish()
    assert any(
        re.match(rf"process {made.attackers[0].number} and what it started: \d+ more lines left out", entry)
        for entry in made.log
    )


# A server that others keep busy.

LIMIT = 40
PATRONS = 4


@pytest.fixture
def crowd(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A volume whose server has to be told of many things, and holds LIMIT at most."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Silent])
    monkeypatch.setattr(servers.Silent, "silent", frozenset())
    monkeypatch.setattr(servers.Silent, "answered", [])
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    made.kernel.releases.limit = LIMIT
    return made


def test_clients_that_open_and_close_faster_than_the_server_is_told_are_not_refused(crowd: Any) -> None:
    """Each of their requests brings something that the server is to be told, and it is told one thing at a time."""
    argument = bytes([100]) + b"/d0\0/d0/f\0"
    (endpoint,) = (p for p in crowd.kernel.state.endpoints.by_number.values() if p.name == "d0")
    endpoint.releases.one_by_one = True  # as if it knew no batches
    patrons = [crowd.start("patron", argument) for _ in range(PATRONS)]
    attention(crowd)
    assert crowd.run().reason == "halt"
    assert [patron.exit_code for patron in patrons] == [0] * PATRONS
    assert crowd.output == bytes(5 * 100 * PATRONS)
    crowd.assert_unharmed()


def test_a_client_that_waits_for_an_overloaded_server_can_be_killed(
    crowd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers.Silent, "silent", frozenset([Operation.CLOSE, Operation.BATCH]))
    patron = crowd.start("patron", bytes([100]) + b"/d0\0/d0/f\0")
    (endpoint,) = (p for p in crowd.kernel.state.endpoints.by_number.values() if p.name == "d0")
    attention(crowd)
    assert crowd.system.run(until=lambda: endpoint.releases.behind).reason == "until"
    clock = crowd.system.machine.clock
    killed = clock.now
    crowd.kernel.processes.kill(patron, 9)
    attention(crowd)
    crowd.run(10_000)
    assert patron.threads == []
    assert clock.now - killed < BEHIND_LIMIT // 2, "nor does it wait until it would have been let on"
    assert endpoint.releases.behind == []
    assert crowd.kernel.check() == []
