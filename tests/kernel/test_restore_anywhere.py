"""A system goes back to a snapshot from any instruction of a workload, and then runs as it did the first time.

CALLGATE_RESTORE_POINTS says from how many random instants of the workload (30; a plain run takes one in three).
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.core.records import EndpointState
from callgate.kernel.system import System, SystemOptions

POINTS = int(os.environ.get("CALLGATE_RESTORE_POINTS", "30"))
SEED = 14
WORK = (
    "/d0p1/hello one; cat README.TXT; hello two; tree; poke README.TXT 0 65; hexdump PATTERN.BIN 100000 64; df; crash"
)


@dataclass
class Rerun:
    """The demo system before its first command, with what a whole run from there is like."""

    system: System
    printed: list[bytes] = field(default_factory=list)
    length: int = 0
    expected: tuple[bytes, int, str] = (b"", 0, "")

    def __post_init__(self) -> None:
        self.kept = self.system.snapshot()
        self.begin = self.system.machine.clock.retired
        self.expected = self.result()

    def result(self) -> tuple[bytes, int, str]:
        """Run to the end; return what was printed, how long it took and what the ledger says."""
        self.printed.clear()
        assert self.system.run().reason == "exit"
        self.length = self.system.machine.clock.retired - self.begin
        return b"".join(self.printed), self.length, repr(self.system.machine.ledger.counts().as_dict())


@pytest.fixture(scope="module")
def rerun() -> Iterator[Rerun]:
    printed: list[bytes] = []
    options = SystemOptions(commands=WORK, scratch=True, output=printed.append)
    system = System([ImageFile(demo_image(cache_directory()))], options)
    assert system.run(until=lambda: system.kernel.state.tasks.shell >= 0).reason == "until"
    while system.kernel.coroutines.alive:
        system.machine.step()
    yield Rerun(system, printed)
    system.close()


def test_a_system_can_be_restored_at_any_instant_of_a_workload(
    rerun: Rerun, some_of: Callable[[list[int], int], list[int]]
) -> None:
    points = random.Random(SEED)
    for steps in some_of([points.randrange(rerun.length) for _ in range(POINTS)], 3):
        rerun.system.restore(rerun.kept)
        rerun.system.machine.step(steps)
        rerun.system.restore(rerun.kept)
        assert rerun.system.kernel.check() == [], steps
    assert rerun.result() == rerun.expected


def test_a_system_can_be_restored_in_the_middle_of_loading_a_program(
    rerun: Rerun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel closes the file on its way out, which waits for something."""
    loading = [0]
    programs = rerun.system.kernel.programs
    obtain = programs.read_all

    async def noted(volume: EndpointState, path: tuple[int, int], limit: int, parent: int) -> bytes:
        loading[0] += 1
        try:
            return await obtain(volume, path, limit, parent)
        finally:
            loading[0] -= 1

    monkeypatch.setattr(programs, "read_all", noted)
    rerun.system.restore(rerun.kept)
    instants = 0
    while not loading[0]:
        rerun.system.machine.step()
    while loading[0]:
        rerun.system.machine.step(20)
        instants += 1
    assert instants > 10
    for steps in range(0, 20 * instants, 2 * instants):
        rerun.system.restore(rerun.kept)
        rerun.system.run(until=lambda: bool(loading[0]))
        rerun.system.machine.step(steps)
        rerun.system.restore(rerun.kept)
        assert not loading[0], steps
    assert rerun.result() == rerun.expected


def test_a_handler_that_raises_when_it_is_closed_does_not_prevent_a_restore(rerun: Rerun) -> None:
    rerun.system.restore(rerun.kept)
    hosted = rerun.system.kernel.hosted
    rerun.system.run(until=lambda: bool(hosted.running))

    class Objecting:
        def close(self) -> None:
            raise RuntimeError("not now")

    selector = next(iter(hosted.running))
    hosted.running[selector].close()
    hosted.running[selector] = Objecting()
    rerun.system.restore(rerun.kept)
    assert not hosted.running
    assert rerun.result() == rerun.expected
