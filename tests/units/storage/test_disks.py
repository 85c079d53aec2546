"""The disks' managers alone: the driver's table, requests, the watch, sector lists, reading through the cache."""

from collections.abc import Coroutine
from typing import Any, cast

import pytest
from callgate.disk.partitioning.partitions import ReadError
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.disks.disk import DISK_REQUEST_PAGES, DISK_REQUEST_RUNS, DiskRequest, DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import REQUESTS_OF_DISK
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_BASE
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.errors import DiskError
from callgate.kernel.core.records import Thread
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.storage.cache_records import Locked
from callgate.kernel.storage.disk_reader import DiskReader
from callgate.kernel.storage.disk_requests import DiskRequests, DiskRequestsState, Run, frame_runs, runs
from callgate.kernel.storage.disk_watch import WATCH_PERIOD, DiskWatch, DiskWatchState
from callgate.kernel.storage.disks import Disks
from plain_guest import Tasks, drive, refusal, returned

PAGE = 4096


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def test_a_disk_is_known_by_its_place_and_generation_and_not_taken_for_its_successor(tasks: Tasks) -> None:
    disks = Disks(tasks.guest)
    key = tasks.put_disk(3, sectors=1 << 33)
    tasks.put_disk(35)
    assert (disks.present(), disks.key(3), key) == ([3, 35], 0x103, 0x103)
    assert (disks.sectors(key), disks.model(key), disks.there(key)) == (1 << 33, "DISK", True)
    tasks.put_disk(3, generation=2)
    assert (disks.there(key), disks.there(0x203)) == (False, True)
    tasks.put_disk(3, generation=2, present=False)
    assert (disks.there(0x203), disks.present()) == (False, [35])


class Requests:
    """Requests to the disk in place 0; ended ones are a list."""

    def __init__(self, tasks: Tasks, sectors: int = 1004) -> None:
        self.tasks = tasks
        self.disk = tasks.put_disk(0, sectors=sectors)
        self.ended: list[tuple[Run, DiskStatus]] = []
        self.state = DiskRequestsState()
        self.watch = DiskWatch(DiskWatchState(), tasks.guest, tasks.threads, tasks.scheduler)
        self.watch.start()
        self.requests = DiskRequests(
            self.state, tasks.guest, tasks.low, Disks(tasks.guest), tasks.scheduler, self.watch, self.note
        )

    def note(self, run: Run, status: DiskStatus) -> None:
        self.ended.append((run, status))

    def read(self, first: int, count: int = 1) -> tuple[Run, list[RoutineCall]]:
        run = Run(self.disk, first, count)
        frames = [HIGH_MEMORY + index * PAGE for index in range(count)]
        return run, drive(self.requests.read(run, frames))[1]

    def request(self, address: int) -> DiskRequest:
        return DiskRequest.from_buffer(self.tasks.guest.ram.view(address - KERNEL_BASE, 512))


@pytest.fixture
def requests(tasks: Tasks) -> Requests:
    return Requests(tasks)


def test_a_run_of_blocks_becomes_one_request_to_the_driver(requests: Requests) -> None:
    _, (submit,) = requests.read(5, 3)
    request = requests.request(submit.ebx)
    assert (submit.name, request.disk, request.lba, request.sectors) == ("disk_submit", 0, 40, 24)
    assert (request.run_count, list(request.runs[:2])) == (1, [HIGH_MEMORY | 2, 0])


def test_frames_that_do_not_lie_side_by_side_are_runs_of_their_own(requests: Requests) -> None:
    frames = [HIGH_MEMORY + index * PAGE for index in (3, 4, 5, 0, 9, 8, 10, 11)]
    _, calls = drive(requests.requests.read(Run(requests.disk, 5, 8), frames))
    request = requests.request(calls[0].ebx)
    expected = [frames[0] | 2, frames[3], frames[4], frames[5], frames[6] | 1]
    assert (request.run_count, list(request.runs[:6])) == (5, [*expected, 0])


def test_bytes_after_the_end_of_the_disk_are_zeros(requests: Requests) -> None:
    ram = requests.tasks.guest.ram
    ram.high[: 2 * PAGE] = b"\xff" * 2 * PAGE
    _, (submit,) = requests.read(124, 2)  # sectors 992 to 1007, of which the last four do not exist
    assert requests.request(submit.ebx).sectors == 12
    assert ram.read(HIGH_MEMORY + PAGE, PAGE) == b"\xff" * 2048 + bytes(2048)


def test_the_end_of_a_disk_request_is_reported_once_and_its_record_is_reused(requests: Requests) -> None:
    run, (submit,) = requests.read(5)
    requests.request(submit.ebx).status = DiskStatus.FAILED
    requests.requests.host_disk_done(submit.ebx)
    assert requests.ended == [(run, DiskStatus.FAILED)]
    assert requests.state.in_flight == {}
    assert requests.read(6)[1][0].ebx == submit.ebx


def test_blocks_after_those_of_a_request_that_waits_are_read_by_it(requests: Requests) -> None:
    run, (submit,) = requests.read(120, 3)
    frames = [HIGH_MEMORY + index * PAGE for index in (7, 8, 6)]
    ram = requests.tasks.guest.ram
    ram.high[: 16 * PAGE] = b"\xff" * 16 * PAGE
    assert requests.requests.extend(requests.disk, 123, frames) is run
    request = requests.request(submit.ebx)
    assert (request.lba, request.sectors, request.run_count) == (960, 44, 3)  # the disk ends in the middle of a block
    assert list(request.runs[:4]) == [HIGH_MEMORY | 2, frames[0] | 1, frames[2], 0]
    assert ram.read(HIGH_MEMORY + 6 * PAGE, PAGE) == b"\xff" * 2048 + bytes(2048)
    request.status = DiskStatus.DONE
    requests.requests.host_disk_done(submit.ebx)
    assert requests.ended == [(run, DiskStatus.DONE)]
    assert (run.first, run.count) == (120, 6)
    assert requests.state.last == {}


def side_by_side(count: int) -> list[int]:
    return [HIGH_MEMORY + index * PAGE for index in range(count)]


def apart(count: int) -> list[int]:
    """Return frames with room between them: each is a run of its own."""
    return [HIGH_MEMORY + 2 * index * PAGE for index in range(count)]


@pytest.mark.parametrize(
    ("begin", "frames", "change"),
    [
        (9, apart(1), None),
        (7, apart(1), None),
        (8, side_by_side(DISK_REQUEST_PAGES - 2), None),
        (8, apart(DISK_REQUEST_RUNS), None),
        (8, apart(1), "active"),
        (8, apart(1), "gone"),
        (8, apart(1), "other disk"),
        (8, apart(1), "over"),
    ],
)
def test_blocks_that_a_waiting_request_cannot_take_have_one_of_their_own(
    requests: Requests, begin: int, frames: list[int], change: str | None
) -> None:
    run, (submit,) = requests.read(5, 3)
    before = bytes(requests.request(submit.ebx))
    disk = requests.disk
    match change:
        case "active":
            requests.request(submit.ebx).status = DiskStatus.ACTIVE
        case "gone":
            requests.tasks.put_disk(0, present=False)
        case "other disk":
            disk = requests.tasks.put_disk(1)
        case "over":
            requests.request(submit.ebx).status = DiskStatus.DONE
            requests.requests.host_disk_done(submit.ebx)
    assert requests.requests.extend(disk, begin, frames) is None
    assert run.count == 3
    assert change or bytes(requests.request(submit.ebx)) == before


@pytest.mark.parametrize("frames", [side_by_side(DISK_REQUEST_PAGES - 3), apart(DISK_REQUEST_RUNS - 1)])
def test_a_waiting_request_takes_blocks_up_to_its_last_page_and_its_last_run(tasks: Tasks, frames: list[int]) -> None:
    requests = Requests(tasks, sectors=1 << 20)
    run, (submit,) = requests.read(5, 3)
    assert requests.requests.extend(requests.disk, 8, frames) is run
    request = requests.request(submit.ebx)
    assert (run.count, request.sectors) == (3 + len(frames), 8 * (3 + len(frames)))
    assert sum(run % PAGE + 1 for run in request.runs[: request.run_count]) == run.count


def test_no_request_is_sent_to_a_removed_disk(requests: Requests) -> None:
    requests.tasks.put_disk(0, present=False)
    run, calls = requests.read(5)
    assert (calls, requests.ended) == ([], [(run, DiskStatus.REMOVED)])
    assert requests.state.running == {}


def test_a_disk_has_512_requests_and_a_thread_that_wants_one_more_waits_for_one_that_ends(requests: Requests) -> None:
    addresses = [requests.read(5)[1][0].ebx for _ in range(REQUESTS_OF_DISK)]
    waits = []

    def block(call: RoutineCall) -> None:
        waits.append(call.eax)
        assert requests.state.waiting == {requests.disk: [requests.tasks.thread.selector]}
        requests.request(addresses[7]).status = DiskStatus.DONE
        requests.requests.host_disk_done(addresses[7])

    _, calls = drive(requests.requests.read(Run(requests.disk, 9, 1), [HIGH_MEMORY]), block=block)
    assert (waits, calls[-1].ebx) == ([WaitReason.DISK], addresses[7])
    assert requests.tasks.scheduler.signalled(requests.tasks.thread)  # it was woken
    assert requests.state.waiting == {}


Reading = Coroutine[Any, Any, RoutineCall | None]


def test_a_disk_request_that_becomes_free_is_for_the_thread_that_has_waited_longest(requests: Requests) -> None:
    """A thread whose data have arrived runs before one that waits, and takes a request again."""
    tasks = requests.tasks
    first, second = tasks.thread, tasks.new_thread(tasks.shell)
    addresses = [requests.read(5)[1][0].ebx for _ in range(REQUESTS_OF_DISK)]

    def finish() -> None:
        requests.request(addresses[-1]).status = DiskStatus.DONE
        requests.requests.host_disk_done(addresses.pop())

    def awaited(thread: Thread, policy: Reading, value: RoutineResult | None = None) -> RoutineCall:
        tasks.run(thread)
        try:
            return cast(RoutineCall, policy.send(value))
        except StopIteration as end:
            return cast(RoutineCall, end.value)

    longest, later = (requests.requests.read(Run(requests.disk, 9, 1), [HIGH_MEMORY]) for _ in range(2))
    wait = awaited(first, longest)
    finish()
    assert awaited(second, later).name == wait.name == "block"
    assert requests.state.waiting == {requests.disk: [first.selector, second.selector]}
    assert awaited(first, longest, returned(wait)).name == "disk_submit"
    assert awaited(second, later, returned(wait)).name == "block", "there is none for it"
    finish()
    assert awaited(second, later, returned(wait)).name == "disk_submit"
    assert requests.state.waiting == {}
    for policy in (longest, later):
        policy.close()


def test_a_killed_thread_does_not_wait_for_a_disk_request(requests: Requests) -> None:
    for _ in range(REQUESTS_OF_DISK):
        requests.read(5)
    requests.tasks.thread.killed = True
    with refusal(ErrorCode.KILLED):
        requests.read(6)


def test_without_memory_for_the_first_requests_a_read_is_refused_and_for_more_of_them_it_waits(
    requests: Requests,
) -> None:
    kept = requests.tasks.low.allocate_several(requests.tasks.low.available)
    with refusal(ErrorCode.NO_MEMORY):
        requests.read(5)
    requests.tasks.low.release(kept[0])
    first = [requests.read(5)[1][0].ebx for _ in range(PAGE // 512)]

    def block(_call: RoutineCall) -> None:
        requests.request(first[0]).status = DiskStatus.DONE
        requests.requests.host_disk_done(first[0])

    _, calls = drive(requests.requests.read(Run(requests.disk, 9, 1), [HIGH_MEMORY]), block=block)
    assert [call.name for call in calls] == ["block", "disk_submit"]


def cut(numbers: list[int], frames: list[int] | None = None, most: int = DISK_REQUEST_PAGES) -> list[tuple[int, int]]:
    """Return (first block, blocks) of each run; the frames of each are those of its blocks."""
    frames = side_by_side(len(numbers)) if frames is None else frames
    places = dict(zip(numbers, frames, strict=True))
    found = runs(7, numbers, frames, most)
    for run, mine in found:
        assert run.disk == 7
        assert mine == [places[number] for number in range(run.first, run.end)]
        assert len(frame_runs(mine)) <= DISK_REQUEST_RUNS
    assert sorted(number for run, _ in found for _, number in run.keys) == sorted(numbers)
    return [(run.first, run.count) for run, _ in found]


def test_runs_of_blocks_are_cut_at_gaps_and_at_512_blocks() -> None:
    assert cut([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 1), (9, 2)]
    assert cut(list(range(1025))) == [(0, 512), (512, 512), (1024, 1)]
    assert cut(list(range(9)), most=4) == [(0, 4), (4, 4), (8, 1)]
    assert cut([10, 3]) == [(10, 1), (3, 1)]
    assert cut([]) == []


def test_runs_of_blocks_are_cut_where_their_frames_lie_in_more_than_56_places() -> None:
    assert cut(list(range(120)), apart(120)) == [(0, 56), (56, 56), (112, 8)]
    pairs = [HIGH_MEMORY + (3 * (index // 2) + index % 2) * PAGE for index in range(120)]
    assert cut(list(range(120)), pairs) == [(0, 112), (112, 8)]
    assert cut(list(range(56)), apart(56)) == [(0, 56)]


def test_the_disk_watch_runs_every_ten_seconds_while_a_command_is_in_flight(requests: Requests) -> None:
    tasks, watch = requests.tasks, requests.watch
    sleepers = tasks.scheduler.state.sleepers
    assert sleepers == []
    _, (submit,) = requests.read(5)
    requests.read(6)
    assert [clock for clock, _ in sleepers] == [WATCH_PERIOD]
    tasks.now(WATCH_PERIOD)
    tasks.scheduler.host_tick(0)
    requests.requests.host_disk_watched(0)
    assert [clock for clock, _ in tasks.scheduler.state.sleepers] == [2 * WATCH_PERIOD]
    for address in list(requests.state.running):
        requests.request(address).status = DiskStatus.DONE
        requests.requests.host_disk_done(address)
    assert (tasks.scheduler.state.sleepers, watch.state.watching) == ([], False)
    requests.requests.host_disk_watched(0)
    assert tasks.scheduler.state.sleepers == []
    assert submit.ebx in requests.state.free


# Sector lists.


class Blocks:
    """A cache that holds all blocks: block n of the disk is n in every byte; the last is 511."""

    def __init__(self, tasks: Tasks) -> None:
        self.high = tasks.guest.ram.high
        self.locked: list[tuple[int, int]] = []
        self.most = 0

    async def read_locked(self, disk: int, numbers: list[int]) -> Locked:
        if numbers[-1] > 511:
            raise DiskError(ErrorCode.IO_ERROR, "cannot be read")
        self.most = max(self.most, len(numbers))
        for index, number in enumerate(numbers):
            self.high[index * PAGE : (index + 1) * PAGE] = bytes([number & 0xFF]) * PAGE
        self.locked += [(disk, number) for number in numbers]
        places = list(range(len(numbers)))
        return Locked(disk, numbers, [HIGH_MEMORY + place * PAGE for place in places], [], places)

    def unlock(self, keys: list[tuple[int, int]]) -> None:
        for key in keys:
            self.locked.remove(key)


def test_sectors_for_policy_are_read_from_their_blocks_and_booked_as_metadata() -> None:
    tasks = Tasks()
    blocks = Blocks(tasks)
    reader = DiskReader(tasks.guest, blocks)
    data, _ = drive(reader.read(0x100, 15, 10))
    assert data == b"\1" * 512 + b"\2" * PAGE + b"\3" * 512
    assert (blocks.locked, dict(tasks.guest.ram.touched)) == ([], {Account.METADATA: 3 * PAGE})


def test_a_partition_reader_counts_sectors_from_its_start_and_raises_its_own_error() -> None:
    tasks = Tasks()
    read = DiskReader(tasks.guest, Blocks(tasks)).reader(0x100, 16)
    assert drive(read(8, 1))[0] == b"\3" * 512
    with pytest.raises(ReadError, match="cannot be read"):
        drive(read(5000, 1))


def test_a_long_read_locks_256_blocks_at_a_time() -> None:
    tasks = Tasks(blocks=256)
    blocks = Blocks(tasks)
    data, _ = drive(DiskReader(tasks.guest, blocks).read(0x100, 0, 3000))
    assert (len(data), blocks.most, blocks.locked) == (3000 * 512, 256, [])
