"""`Kernel.check`: each invariant is broken by hand and found, by its own name; a running system breaks none."""

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.drives.latency import Latency
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.invariants import INVARIANTS
from invariant_breaks import ALSO, BREAKS, Break

POINTS = int(os.environ.get("CALLGATE_CHECK_POINTS", "80"))
SEED = 12
LENGTH = 130_000  # about as many instructions as WORK takes
WORK = (
    "dir; tree /d0p1; cat README.TXT; poke README.TXT 0 65; hexdump PATTERN.BIN 100000 64; df; hello there; crash; "
    "cat nothing"
)


def boot(**options: Any) -> System:
    image = demo_image(cache_directory())
    return System([ImageFile(image)], SystemOptions(scratch=True, **options))


@pytest.fixture(scope="module")
def booted() -> Iterator[tuple[System, Any]]:
    """A demo system at its prompt, with a snapshot to go back to."""
    system = boot()
    system.run(fuel=50_000_000)
    kept = system.snapshot()
    assert system.kernel.check() == []
    yield system, kept
    system.restore(kept)
    system.close()


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_an_invariant_that_is_broken_is_found(booted: tuple[System, Any], broken: Break) -> None:
    system, kept = booted
    system.restore(kept)
    broken(system.kernel)
    found = system.kernel.check()
    name, text = BREAKS[broken]
    assert any(line.startswith(f"{name}: ") and text in line for line in found), found
    assert {line.partition(":")[0] for line in found} <= {name} | ALSO.get(broken, set()), found
    system.checks.dma.found.clear()


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("place", [0, 2, -1])
def test_a_disk_command_that_writes_to_a_frame_that_the_cache_has_freed_is_found(place: int) -> None:
    system = boot(latency=Latency(command=200_000), commands="cat PATTERN.BIN")
    kernel = system.kernel
    drive = system.controller.drives[0]
    in_flight = kernel.disk_requests.state.running
    while not ((drive.ci | drive.sact) and any(run.count > 3 for run in in_flight.values())):
        system.run(fuel=200)
    assert kernel.check() == []
    run = next(run for run in in_flight.values() if run.count > 3)
    key = run.keys[place]
    blocks = kernel.cache.state.blocks
    blocks.frames[blocks.place(key)] = kernel.memory.high.allocate()
    found = [line for line in kernel.check() if line.startswith("transfers_in_flight_have_cache_frames")]
    assert len(found) == 1
    assert "the disk may write to frame" in found[0]
    system.close()


def test_every_invariant_is_broken_by_a_test() -> None:
    tested = {name for name, _ in BREAKS.values()} | {"transfers_in_flight_have_cache_frames"}
    assert {invariant.__name__ for invariant in INVARIANTS} == tested
    assert all(invariant.__doc__ for invariant in INVARIANTS)


def test_no_invariant_is_broken_at_random_instants_of_the_demo() -> None:
    """CALLGATE_CHECK_POINTS says at how many instants; the seed is fixed, so that a finding can be seen again."""
    chance = random.Random(SEED)
    system = boot(commands=WORK, latency=Latency(command=20_000, sector=20))
    checked = 0
    while system.run(fuel=chance.randrange(1, 2 * LENGTH // POINTS)).reason == "fuel":
        assert system.kernel.check() == [], f"after {system.machine.clock.retired} instructions, seed {SEED}"
        checked += 1
    assert system.exit_code == 1, "the last command fails"
    assert checked > POINTS * 3 // 4
    system.close()


@pytest.mark.parametrize("numbers", ["all in use", "one free"])
def test_a_volume_that_is_made_without_a_free_frame_has_that_of_a_dead_one_or_changes_nothing(
    booted: tuple[System, Any], monkeypatch: pytest.MonkeyPatch, numbers: str
) -> None:
    system, kept = booted
    system.restore(kept)
    system.unplug(0)
    system.run(fuel=50_000_000)
    kernel = system.kernel
    before = dict(kernel.state.endpoints.by_number)
    dead = [number for number, endpoint in before.items() if endpoint.dead]
    monkeypatch.setattr("callgate.kernel.abi.selectors.MAX_ENDPOINTS", len(before) + (numbers == "one free"))
    process = kernel.processes.create("late")
    low = kernel.state.low
    taken = [low.allocate() for _ in range(low.available - 1)]  # one is left, for the table of the messages
    if numbers == "one free":
        with pytest.raises(OutOfMemory):
            kernel.endpoint_lifetimes.create(process, -1, 0, 0, "late")
        assert kernel.state.endpoints.by_number == before
    else:
        made = kernel.endpoint_lifetimes.create(process, -1, 0, 0, "late")
        assert made.number in dead
        kernel.endpoint_lifetimes.die(made, ErrorCode.SERVER_DIED)
        process.endpoint = -1
    for frame in taken:
        low.release(frame)
    kernel.processes.discard(process)
    assert kernel.check() == []
    system.restore(kept)


def test_a_check_of_all_invariants_takes_at_most_a_few_milliseconds_of_the_host(booted: tuple[System, Any]) -> None:
    system, kept = booted
    system.restore(kept)
    begin = time.process_time()
    for _ in range(10):
        system.kernel.check()
    assert (time.process_time() - begin) / 10 < 0.02
