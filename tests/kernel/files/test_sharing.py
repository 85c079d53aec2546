"""Requests and answers, shared data, and the release of data that are idle or whose disk is gone."""

import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.errors import ErrorCode

Sessions = Callable[..., Any]
MIB = 1 << 20
SLOW = Latency(command=100_000, sector=300)


def content(size: int, salt: int) -> bytes:
    return random.Random(salt).randbytes(size)


FILES = {"SMALL.BIN": content(64 << 10, 1), "OTHER.BIN": content(12 * MIB, 2), "BIG.BIN": content(20 * MIB, 3)}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=48 * MIB)
    return out


def total(name: str) -> bytes:
    data = FILES[name]
    return struct.pack("<I", sum(array("I", data)) & 0xFFFF_FFFF)


def test_the_disk_wakes_the_reader_and_not_the_server(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/SMALL.BIN")], trace=True, latency=SLOW)
    made.run()
    assert made.output == total("SMALL.BIN")
    reader = made.processes[0]
    kinds = [(event.kind, event.fields.get("thread")) for event in made.events]
    ready = next(index for index, (kind, _) in enumerate(kinds) if kind == "file.ready")
    posted = max(index for index, (kind, _) in enumerate(kinds[:ready]) if kind == "ipc.post")
    replied = next(index for index in range(posted, ready) if kinds[index][0] == "ipc.reply")

    # The server had replied before the disk was through …
    done = [index for index in range(replied, ready) if kinds[index][0] == "disk.done"]
    assert done, "the disk had something to do"
    # … and between its reply and the reader's next step no thread entered it.
    after = next(index for index in range(ready, len(kinds)) if kinds[index][0] == "thread.switch")
    assert not [kind for kind, _ in kinds[replied + 1 : after] if kind in ("ipc.fetch", "ipc.map", "ipc.load")]
    woken = made.events[after].fields
    assert reader.exit_code == 0
    assert woken["thread"] is not None


def test_readers_of_one_file_share_its_object_and_its_requests(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/SMALL.BIN")] * 6, latency=SLOW)
    made.system.run(until="file.ready")
    assert len(made.kernel.files.objects) == 1
    file = next(iter(made.kernel.files.objects.values()))
    assert file.opens == 6
    made.run()
    assert made.output == total("SMALL.BIN") * 6
    assert made.counters.requests == 1
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("way", "ck")
def test_a_file_larger_than_the_cache_is_read(session: Sessions, image: Path, way: str) -> None:
    made = session(image, programs=[("reader", f"{way}/d0/BIG.BIN")], high_memory=8 * MIB)
    made.run()
    assert made.codes == [0], made.log
    assert made.output == total("BIG.BIN")
    assert made.kernel.cache.state.evictions > 1000
    assert made.unaccounted() == []


@pytest.mark.thorough(only=True)
def test_readers_that_want_more_than_the_cache_holds_all_read_their_data(session: Sessions, image: Path) -> None:
    programs = [("reader", "c/d0/BIG.BIN"), ("reader", "c/d0/OTHER.BIN"), ("reader", "k/d0/BIG.BIN")]
    made = session(image, programs=programs, high_memory=12 * MIB)
    made.run(fuel=2_000_000_000)
    assert made.codes == [0, 0, 0], made.log
    outputs = [made.output[index : index + 4] for index in (0, 4, 8)]
    assert sorted(outputs) == sorted([total("BIG.BIN"), total("OTHER.BIN"), total("BIG.BIN")])
    assert made.unaccounted() == []


@pytest.mark.parametrize("other", [" /d0/OTHER.BIN", ""])
def test_pages_that_no_program_accesses_leave_the_window_and_come_back(
    session: Sessions, image: Path, other: str
) -> None:
    """Whether other files are read meanwhile or nothing happens at all."""
    made = session(image, programs=[("idler", f"/d0/SMALL.BIN{other}")])
    made.reach("idler", "looked")
    small = next(file for file in made.kernel.files.objects.values() if file.size == len(FILES["SMALL.BIN"]))
    assert small.opens == 1
    assert small.spans == [], "left alone for a second, it must have been let go"
    made.run()
    assert made.codes == [0]
    assert made.output == FILES["SMALL.BIN"][:4096]
    assert made.unaccounted() == []


@pytest.mark.thorough(only=True)
def test_reading_ahead_stops_at_the_end_and_unused_data_are_counted(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("pages", "/d0/BIG.BIN")])
    made.run()
    assert made.output == FILES["BIG.BIN"][:8192]
    assert made.counters.ahead >= 1
    assert made.counters.wasted == made.counters.ahead
    assert made.unaccounted() == []

    whole = session(image, programs=[("reader", "c/d0/BIG.BIN")])
    whole.run()
    assert whole.counters.wasted == 0
    assert whole.counters.ahead == whole.counters.requests - 1


def test_a_server_that_a_page_fault_wakes_runs_although_the_program_makes_no_more_calls(
    session: Sessions, image: Path
) -> None:
    """The page is in memory, so that no thread waits; reading ahead wakes the server, whose priority is higher."""
    made = session(image, programs=[("toucher", "/d0/BIG.BIN")])
    made.reach("toucher", "last")
    made.kernel.scheduler.current.priority -= 1
    requests, gates = made.counters.requests, made.system.machine.ledger.counts().server_gates
    made.reach("toucher", "spin")
    assert made.counters.requests > requests
    assert made.system.machine.ledger.counts().server_gates > gates


def test_a_thread_that_policy_wakes_in_a_page_fault_runs_before_the_program_goes_on(
    session: Sessions, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when room is made for what is read ahead, a server is to be told, and the READ is refused after all."""
    made = session(image, programs=[("toucher", "/d0/BIG.BIN")], trace=True)
    made.reach("toucher", "last")
    thread, fault = made.kernel.releases.state.thread, made.kernel.reading.fault
    assert thread.priority > made.kernel.scheduler.current.priority

    async def fault_and_wake(*arguments: Any) -> bool:
        found: bool = await fault(*arguments)
        made.kernel.scheduler.host_wake(thread.selector)
        return found

    monkeypatch.setattr(made.kernel.reading, "fault", fault_and_wake)
    made.events.clear()
    made.reach("toucher", "spin")
    switches = [event.fields["thread"] for event in made.events if event.kind == "thread.switch"]
    assert thread.number in switches


def test_a_jump_ends_reading_ahead(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("jumper", "/d0/BIG.BIN")])
    made.run()
    assert made.codes == [0], made.log
    positions = [(index * 7 * MIB + index * 12288) % (20 * MIB) & -4096 for index in range(1, 9)]
    assert made.output == b"".join(FILES["BIG.BIN"][at : at + 4] for at in positions)
    # Two blocks at the beginning, where it looked like the first of many; none after a jump.
    assert made.counters.ahead <= 2


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("held", [False, True])
def test_a_file_closed_while_a_thread_waits_for_its_data_is_a_bad_handle_there(
    session: Sessions, image: Path, held: bool
) -> None:
    """And nothing of it comes into the window of the file that has its place by then, even if others have it open."""
    holder = [("idler", "/d0/BIG.BIN /d0/OTHER.BIN")] if held else []
    codes = []
    for nanoseconds in (1_000, 100_000, 250_000, 2_000_000):
        argument = f"{nanoseconds:08x}/d0/BIG.BIN /d0/SMALL.BIN"
        made = session(image, programs=[*holder, ("closer", argument)], latency=SLOW)
        assert made.run().reason == "halt", nanoseconds
        assert made.output == FILES["SMALL.BIN"] + FILES["BIG.BIN"][: 4096 * held], nanoseconds
        assert made.unaccounted() == [], nanoseconds
        codes.append(made.codes[-1])
        made.system.close()
    assert codes[0] == ErrorCode.BAD_HANDLE
    assert codes[-1] == ErrorCode.OK


@pytest.mark.parametrize("way", "epck")
def test_a_disk_that_vanishes_is_an_error_for_every_reader(session: Sessions, image: Path, way: str) -> None:
    made = session(image, programs=[("reader", f"{way}/d0/BIG.BIN")], latency=SLOW)
    made.run(until="file.ready")
    made.run(fuel=300_000)
    made.system.unplug(0)
    made.run()
    gone = 100 + ErrorCode.UNPLUGGED
    assert made.codes == ([139] if way in "ck" else [gone]), made.log
    if way in "ep":
        assert FILES["BIG.BIN"].startswith(made.output)
    else:
        assert any("the disk was removed (a page of a file)" in line for line in made.log), made.log
    assert made.unaccounted() == []


def test_the_page_of_a_file_that_is_gone_stays_invalid_for_ever(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/BIG.BIN")], latency=SLOW)
    made.run(until="file.ready")
    file = next(iter(made.kernel.files.objects.values()))
    from callgate.kernel.abi.file import FilePage

    view = made.system.machine.ram.view(file.frame, 4096)
    page = FilePage.from_buffer_copy(view)
    assert (page.valid, page.generation, page.size) == (1, file.number, len(FILES["BIG.BIN"]))
    assert page.sequence % 2 == 0
    made.system.unplug(0)
    made.run(fuel=2000)
    after = FilePage.from_buffer_copy(view)
    assert (after.valid, after.error, after.count) == (0, ErrorCode.UNPLUGGED, 0)
    assert after.generation == page.generation
    assert after.sequence > page.sequence


@pytest.mark.thorough(only=True)
def test_requests_are_posted_one_after_the_other_without_waiting_for_an_answer(session: Sessions, image: Path) -> None:
    """Reading ahead: a reader's requests are in the ring together before the server has answered the first of them."""
    made = session(image, programs=[("reader", "c/d0/BIG.BIN")], trace=True, latency=SLOW)
    assert made.run().reason == "halt"
    assert made.output == total("BIG.BIN")
    unanswered = most = 0
    for event in made.events:
        if event.kind == "ipc.post":
            unanswered += 1
        elif event.kind == "ipc.reply":
            unanswered -= 1
        most = max(most, unanswered)
    assert most >= 2
