"""Pictures of runs in which a disk goes, a server lies, or nothing is asked."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.ipc import Bench
from callgate.tools.pictures import page, perfetto, sequence
from callgate.tools.pictures.flame.profile import Profile
from callgate.tools.pictures.memory.survey import survey
from callgate.tools.pictures.recorder import Recorder
from callgate.tools.pictures.records import RunRecord

DRAWN: tuple[Callable[[RunRecord], Any], ...] = (sequence.draw, page.draw, perfetto.draw)


@pytest.mark.thorough(one_in=24)
@pytest.mark.parametrize("ide", [False, True], ids=["ahci", "ide"])
@pytest.mark.parametrize("clock", list(range(29_000, 500, -1_200)))
def test_every_picture_of_a_run_whose_disk_is_unplugged_is_drawn(clock: int, ide: bool) -> None:
    options = SystemOptions(commands="dir; cat README.TXT", ide=ide)
    with System([open_image(demo_image(cache_directory()))], options) as system:
        system.unplug_at(clock)
        recorder, profile = Recorder(system, RunRecord((), "")), Profile(system)
        system.run(fuel=5_000_000)
        recording = recorder.finish()
        ledger = system.machine.ledger.counts()
        assert sum(profile.finish().values()) == ledger.guest_instructions
        assert sum(pages for _, pages in survey(system).owners(high=False)) * 4096 == options.memory
    for draw in DRAWN:
        assert draw(recording)
    ET.fromstring(sequence.draw(recording))
    failed = [request for request in recording.requests if request.error]
    assert {request.error for request in failed} <= {ErrorCode.UNPLUGGED, ErrorCode.IO_ERROR, ErrorCode.SERVER_DIED}


def test_a_server_that_goes_through_the_motions_for_a_slot_that_was_not_taken_makes_no_request() -> None:
    bench = Bench(clients=1)
    recorder = Recorder(bench.system, RunRecord((), ""))
    machine = bench.system.machine
    bench.system.run(until="ipc.load")
    known = len(recorder.recording.requests)
    machine.cpu.ebp += 7 * 4096  # the message page of slot 7, which no client has used
    machine.step(1)
    recorder.system.machine.stream.emit("ipc.load", thread=1, message=machine.cpu.ebp)
    recorder.system.machine.stream.emit("ipc.save", thread=1, message=0xFFFF_F000)
    bench.close()
    assert len(recorder.recording.requests) == known
    assert all(request.slot != 7 for request in recorder.recording.requests)


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__module__.rpartition(".")[2])
def test_a_run_in_which_nothing_happened_can_be_drawn(draw: Callable[[RunRecord], Any]) -> None:
    assert draw(RunRecord(("a.img",), "true"))
