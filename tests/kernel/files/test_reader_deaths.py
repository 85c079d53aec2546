"""Readers and servers that die at evenly spaced instants of reading: nothing stays locked, the others go on.

CALLGATE_DEATH_POINTS says at how many; the checks of a change look at more than the plain run.
"""

import os
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.server.message import Reply, Request

Sessions = Callable[..., Any]
POINTS = int(os.environ.get("CALLGATE_DEATH_POINTS", "4"))
UNPLUG_POINTS = max(6, POINTS // 4)
SIZE = 3 << 20
CONTENT = random.Random(1).randbytes(SIZE)
SUM = struct.pack("<I", sum(array("I", CONTENT)) & 0xFFFF_FFFF)
SLOW = Latency(command=100_000, sector=50)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deaths")
    (folder / "A.BIN").write_bytes(CONTENT)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def points(made: Any) -> tuple[range, Any]:
    """Run to the readers' start, keep a snapshot, run to the end; return instants in between and the snapshot."""
    made.reach("reader", "start")
    kept = made.system.snapshot()
    made.run()
    assert made.output == SUM * 2
    # Most of the time goes by in summing; the beginning is where things happen.
    return range(1, 1_200_000, 1_200_000 // POINTS), kept


def attention(made: Any) -> None:
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


class Counting(synthetic.Synthetic):
    """Counts how often its files are open."""

    opens: ClassVar[int] = 0

    async def open(self, request: Request) -> Reply:
        Counting.opens += 1
        return await super().open(request)

    async def close(self, request: Request) -> Reply:
        Counting.opens -= 1
        return await super().close(request)


def test_a_file_opened_for_a_process_that_has_died_meanwhile_is_closed_at_the_server(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Counting])
    Counting.files = {"a": synthetic.Layout(5000, [(64, 10)])}
    made = session(MemoryMedium(synthetic.disk(100)), programs=[("reader", "c/d0/a")])
    made.reach("reader", "start")
    kept = made.system.snapshot()
    (number,) = (process.number for process in made.processes)
    most = 0
    for fuel in range(1, 4000, 90):
        made.system.restore(kept)
        Counting.opens = 0
        made.run(fuel=fuel)
        process = made.kernel.state.tasks.processes[number]
        made.kernel.processes.kill(process, 9)
        attention(made)
        most = max(most, Counting.opens)
        assert made.run().reason == "halt", fuel
        assert Counting.opens == 0, fuel
        assert made.unaccounted() == [], fuel
    assert most == 1


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("victim", ["first reader", "second reader", "server", "both readers"])
def test_a_process_that_dies_while_a_file_is_read_leaves_nothing_behind(
    session: Sessions, image: Path, victim: str
) -> None:
    made = session(image, programs=[("reader", "c/d0/A.BIN"), ("reader", "k/d0/A.BIN")], latency=SLOW)
    instants, kept = points(made)
    numbers = [process.number for process in made.processes]
    server = next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0").number
    for instant in instants:
        made.system.restore(kept)
        made.printed.clear()
        processes = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.run(fuel=instant)
        if victim == "server":
            endpoint = made.kernel.state.endpoints.by_number[server]
            made.kernel.servers.kill(endpoint.process, "killed by the test")
        for index, name in enumerate(("first reader", "second reader")):
            if victim in (name, "both readers"):
                made.kernel.processes.kill(processes[index], 9)
        attention(made)
        assert made.run().reason == "halt", instant
        assert made.unaccounted() == [], instant
        codes = [process.exit_code for process in processes]
        if victim == "first reader":
            assert codes == [9, 0], instant
            assert made.output == SUM, instant
        elif victim == "second reader":
            assert codes == [0, 9], instant
            assert made.output == SUM, instant
        elif victim == "both readers":
            assert codes == [9, 9], instant
        else:
            # Readers with all their data in memory may not notice; the others end with an error or a report.
            assert set(codes) <= {0, 113, 139}, (instant, codes)


def test_a_reader_that_waits_for_data_another_one_requested_has_them_although_that_one_dies(
    session: Sessions, image: Path
) -> None:
    """The reader that asks waits for a slot of the server, all of which are taken, when it is killed."""
    made = session(image, programs=[("reader", "c/d0/A.BIN"), ("reader", "c/d0/A.BIN")], latency=SLOW)
    made.run(until=made.kernel.guest.address("take_and_fill"))
    made.system.machine.step()
    made.run(until=made.kernel.guest.address("take_and_fill"))  # the next data, before they are needed
    first = made.kernel.scheduler.current.process
    second = next(process for process in made.processes if process is not first)
    file = next(iter(made.kernel.files.objects.values()))
    fields = made.kernel.slots.block(made.kernel.state.endpoints.by_number[file.endpoint])
    free, unused = fields["free"], fields["unused"]
    fields["free"], fields["unused"] = 0, 0
    for _ in range(60):
        if file.spans[-1].waiters:
            break
        made.run(fuel=100_000)
    assert file.opens == 2
    assert fields["slot_waiters"] == 1
    assert file.spans[-1].waiters == [second.threads[0].selector]
    fields["free"], fields["unused"] = free, unused
    made.kernel.processes.kill(first, 9)
    attention(made)
    assert made.run().reason == "halt"
    assert (first.exit_code, second.exit_code) == (9, 0), made.log
    assert made.output == SUM
    assert made.unaccounted() == []


def test_a_server_that_dies_while_a_shared_file_is_opened_leaves_no_file_object(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/A.BIN"), ("reader", "c/d0/A.BIN")], latency=SLOW)
    kernel = made.kernel

    # The server's second number for a file that is open already is given back.
    operation = None
    while operation != Operation.CLOSE:
        made.system.machine.step()
        assert made.run(until=kernel.guest.address("ipc_post_slot")).reason == "until"
        operation = kernel.threads.block(kernel.scheduler.current)["request_operation"]
    opener = made.processes[1]
    assert opener.exit_code is None
    (file,) = kernel.files.objects.values()
    kernel.servers.kill(kernel.state.endpoints.by_number[file.endpoint].process, "killed by the test")
    assert made.run().reason == "halt"
    assert opener.exit_code == 100 + ErrorCode.SERVER_DIED
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("again", [False, True])
def test_a_disk_that_vanishes_at_any_instant_of_reading_is_an_error_for_its_readers(
    session: Sessions, image: Path, again: bool
) -> None:
    """By the library, through pointers and by touching the window; the disk may come back while things are mended."""
    programs = [("reader", f"{way}/d0/A.BIN") for way in "epck"]
    made = session(image, programs=programs, latency=SLOW)
    made.reach("reader", "start")
    kept = made.system.snapshot()
    numbers = [process.number for process in made.processes]
    gone = 100 + ErrorCode.UNPLUGGED
    ends = set()
    for instant in range(1, 3_000_000, 3_000_000 // UNPLUG_POINTS):
        made.system.restore(kept)
        made.printed.clear()
        made.log.clear()
        processes = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.run(fuel=instant)
        made.system.unplug(0)
        if again:
            made.run(fuel=instant % 7919)
            made.system.plug(0, ImageFile(image))
        assert made.run().reason == "halt", instant
        assert made.unaccounted() == [], instant
        there = {made.kernel.disks.key(place) for place in made.kernel.disks.present()}
        assert {disk for disk, _ in made.kernel.cache.state.blocks} <= there, instant
        codes = [process.exit_code for process in processes]
        assert all(code in {0, gone, 128 + 11, 100 + ErrorCode.NOT_FOUND} for code in codes), (instant, codes, made.log)
        ends |= set(codes)
    assert {gone, 128 + 11} <= ends
