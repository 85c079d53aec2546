"""Disks that are plugged and removed while the system runs: at any instant nothing hangs, leaks or stays stale."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.system import System, SystemOptions
from ipc_rig import FAST_PATH

FUEL = 60_000_000
POINTS = int(os.environ.get("CALLGATE_UNPLUG_POINTS", "20"))
BIG = bytes(range(256)) * 1030
WORK = (
    "cat BIG.BIN; poke BIG.BIN 4096 1 2 3; ls; ls docs; cat docs/B.TXT docs/B.TXT; ls /; cat /d1/GOOD.TXT; hello after"
)


@dataclass
class Run:
    """One system that lives as long as its test."""

    system: System
    log: list[str] = field(default_factory=list)
    printed: list[bytes] = field(default_factory=list)

    @property
    def output(self) -> bytes:
        return b"".join(self.printed)


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def boot(*images: Path, **options: Any) -> Run:
        run = Run.__new__(Run)
        run.log, run.printed = [], []
        settings = SystemOptions(log=run.log.append, output=run.printed.append, **{"fast_path": FAST_PATH, **options})
        run.system = System([ImageFile(image) for image in images], settings)
        made.append(run)
        return run

    yield boot
    for run in made:
        run.system.close()


@pytest.fixture
def images(fat_image: Callable[..., Path]) -> tuple[Path, Path]:
    return (
        fat_image({"BIG.BIN": BIG, "docs/B.TXT": b"b" * 3000}, name="first.img"),
        fat_image({"GOOD.TXT": b"good\n", "docs/OTHER.TXT": b"other"}, name="second.img"),
    )


def check(run: Run, printed: bytes, clock: int) -> bool:
    """What was printed is what the disk held, up to its removal; return whether that cut it short."""
    assert printed.endswith(b"good\nhello from ring 3, arguments: after\n"), (clock, printed[-300:])
    common = next((i for i, (a, b) in enumerate(zip(printed, BIG, strict=False)) if a != b), len(BIG))
    if common < len(BIG):
        # A message may begin with the very byte that would have come next.
        rest = [printed[at:] for at in (common, common - 1)]
        assert any(text.startswith((b"cat: ", b"ls: ")) for text in rest), (clock, rest[0][:80])
    return common < len(BIG)


def test_removing_a_disk_at_any_instant_removes_only_its_own_volumes(
    start: Callable[..., Run], images: tuple[Path, Path], find_leaks: Callable[[System], list[str]]
) -> None:
    """At evenly spaced points of a workload, from a snapshot; CALLGATE_UNPLUG_POINTS says how many."""
    run = start(*images, places=2, latency=Latency(command=20_000, sector=200), scratch=True)
    system = run.system
    system.run(fuel=FUEL)
    kept = system.snapshot()
    begin = system.machine.clock.now
    shell = Prompt(run)
    whole = shell(WORK)
    assert whole.startswith(BIG)
    assert system.kernel.cache.state.changed == 1
    end = system.machine.clock.now
    cut = 0
    for clock in range(begin, end, (end - begin) // POINTS + 1):
        system.restore(kept)
        run.printed.clear()
        run.log.clear()
        system.unplug_at(clock)
        cut += check(run, shell(WORK), clock)
        assert not system.kernel.coroutines.alive, clock
        assert find_leaks(system) == [], clock
        assert not system.kernel.files.objects, clock
        assert not system.kernel.state.files.waiting, clock
        assert not system.kernel.cache.state.changed, clock
    assert cut > POINTS // 10


@pytest.mark.thorough(only=True)
def test_the_removal_of_an_ide_disk_is_noticed_at_the_next_command(
    start: Callable[..., Run], images: tuple[Path, Path], find_leaks: Callable[[System], list[str]]
) -> None:
    whole = start(*images, commands=WORK, ide=True)
    whole.system.run(fuel=FUEL)
    end = whole.system.machine.clock.now
    cut = 0
    for clock in range(20_000, end, end // 5):
        run = start(*images, commands=WORK, ide=True)
        run.system.unplug_at(clock)
        stop = run.system.run(fuel=FUEL)
        assert stop.reason == "exit", (clock, stop, run.log)
        cut += check(run, run.output, clock)
        assert find_leaks(run.system) == [], clock
        run.system.close()
    assert cut > 0


def test_waiting_readers_and_listers_are_told_that_the_disk_is_gone(
    start: Callable[..., Run], images: tuple[Path, Path], find_leaks: Callable[[System], list[str]]
) -> None:
    slow = Latency(command=500_000)
    run = start(*images, commands="cat BIG.BIN; echo $?; ls /d0; echo $?", latency=slow)
    assert run.system.run(until="file.ready").reason == "until"
    run.system.unplug(0)
    assert run.system.run(fuel=FUEL).reason == "exit"
    assert b"cat: BIG.BIN: the disk was removed\n1\nls: /d0: the disk was removed\n1\n" in run.output
    assert any("/d0: gone, the disk was removed" in line for line in run.log)
    assert find_leaks(run.system) == []


def test_a_disk_that_is_plugged_in_again_is_mounted_afresh(
    start: Callable[..., Run], images: tuple[Path, Path], find_leaks: Callable[[System], list[str]]
) -> None:
    run = start(images[0])
    system = run.system
    system.run(fuel=FUEL)
    first = next(p for p in system.kernel.state.endpoints.by_number.values() if p.name == "d0")
    shell = Prompt(run)
    assert b"BIG.BIN" in shell("ls /d0")
    system.unplug(0)
    assert shell("ls /d0") == b"ls: /d0: the disk was removed\n"
    # Another disk in the same place: none of the old one's blocks may be taken for its own.
    system.plug(0, ImageFile(images[1]))
    system.run(fuel=FUEL)
    assert shell("cat /d0/GOOD.TXT") == b"good\n"
    assert shell("cat /d0/BIG.BIN") == b"cat: /d0/BIG.BIN: no such file or directory\n"
    system.unplug(0)
    system.plug(0, ImageFile(images[0]))
    system.run(fuel=FUEL)
    assert shell("cat /d0/docs/B.TXT") == b"b" * 3000
    alive = [p for p in system.kernel.state.endpoints.by_number.values() if p.name == "d0" and not p.dead]
    assert len(alive) == 1
    assert alive[0].disk != first.disk
    assert find_leaks(system) == []


def test_a_disk_may_be_plugged_in_where_none_was(start: Callable[..., Run], images: tuple[Path, Path]) -> None:
    run = start(places=6)
    run.system.run(fuel=FUEL)
    shell = Prompt(run)
    assert shell("ls /") == b"rom\n"
    run.system.plug(5, ImageFile(images[1]))
    run.system.run(fuel=FUEL)
    assert shell("ls /") in (b"rom\nd0\n", b"d0\nrom\n")
    assert shell("cat /d0/GOOD.TXT") == b"good\n"


@pytest.mark.thorough(only=True)
def test_a_hundred_changes_of_a_disk_leave_room_for_the_next(
    start: Callable[..., Run], images: tuple[Path, Path], find_leaks: Callable[[System], list[str]]
) -> None:
    run = start(images[0], high_memory=64 << 20)
    system = run.system
    system.run(fuel=FUEL)
    shell = Prompt(run)
    used = []
    for number in range(100):
        system.unplug(0)
        if number % 3:
            system.run(fuel=3000 * number)  # the new disk comes while the old one is still being cleaned up
        system.plug(0, ImageFile(images[number % 2]))
        assert system.run(fuel=FUEL).reason == "halt"
        assert system.kernel.check() == [], number
        wanted = b"b" * 3000 if number % 2 == 0 else b"other"
        assert shell(f"cat /d0/docs/{'B' if number % 2 == 0 else 'OTHER'}.TXT") == wanted, number
        used.append(system.kernel.memory.low.used)
    assert find_leaks(system) == []
    assert max(used[60:]) - min(used[60:]) < 200, used
    assert not system.kernel.coroutines.alive


def test_two_runs_with_an_unplugged_disk_print_the_same(start: Callable[..., Run], images: tuple[Path, Path]) -> None:
    outputs = []
    for _ in range(2):
        run = start(*images, commands=WORK)
        run.system.unplug_at(400_000)
        run.system.run(fuel=FUEL)
        outputs.append((run.output, run.system.machine.clock.retired, run.log))
    assert outputs[0] == outputs[1]


def test_an_impossible_disk_number_is_refused(start: Callable[..., Run], images: tuple[Path, Path]) -> None:
    system = start(images[0]).system
    with pytest.raises(ValueError, match="no disk 1"):
        system.unplug(1)
    with pytest.raises(ValueError, match="no disk 7"):
        system.plug(7, MemoryMedium(bytes(512)))


class Prompt:
    """A prompt: type a line, get what it printed."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, line: str) -> bytes:
        before = len(self.run.output)
        self.run.system.machine.serial.feed(line.encode() + b"\n")
        stop = self.run.system.run(fuel=FUEL)
        assert stop.reason == "halt", (line, stop, self.run.log)
        return self.run.output[before:]
