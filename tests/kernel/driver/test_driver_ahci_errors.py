"""The AHCI driver when things go wrong: errors, unplugged and replaced drives, drives that hang."""

import os
import random

import pytest
from callgate.disk.ahci.controller import AhciController
from callgate.disk.drives.drive import DriveError, error_log
from callgate.disk.drives.latency import Latency
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.kernel.abi.disks.ahci import PortInterrupt, TaskFile
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE

SEEDS = int(os.environ.get("CALLGATE_SEEDS", "1"))  # how many runs; the checks of a change make more
SLOW = Latency(command=50_000)
REORDERING = Latency(command=40_000, reorder=True)
UNREADABLE = 0x4051  # UNC; ready, seek complete, error
NOT_FOUND = 0x1051
NOWHERE = 0x0FF0_0000_0000


@pytest.fixture
def no_log(monkeypatch):
    """Make a controller's first drive one that does not say which queued command has failed."""

    def refuse(_command):
        raise DriveError(0x04, "no log")

    return lambda controller: monkeypatch.setattr(controller.drives[0].drive, "_log", refuse)


def requests_in_a_row(b, count, sectors=4, disk=0):
    """Make requests for consecutive stretches of a disk, a page for each."""
    pages = b.frames(count)
    return [b.request(disk, index * sectors, sectors, [pages[index]]) for index in range(count)]


def check(b, requests, data, failed, sectors=4):
    """All requests have ended, once; those in `failed` in that way, the others with the disk's content."""
    assert sorted(b.done) == sorted(requests)
    for index, request in enumerate(requests):
        expected = failed.get(index, DiskStatus.DONE)
        assert b.status(request) is expected, index
        if expected is DiskStatus.DONE:
            assert b.read(request) == data[index * sectors * 512 : (index + 1) * sectors * 512], index
    disk = b.disk(0)
    assert (disk.issued, disk.suspects, disk.parked, disk.queue_head, disk.queue_tail) == (0,) * 5


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("ncq", [True, False])
@pytest.mark.parametrize("latency", [Latency(), REORDERING], ids=["in order", "out of order"])
def test_a_medium_error_fails_its_request_and_no_other(bench, content, ncq, latency):
    data = content(400)
    medium = FaultInjecting(MemoryMedium(data), bad=[4 * 17 + 2])
    b = bench.ahci(AhciController([medium], ncq=ncq, latency=latency))
    requests = requests_in_a_row(b, 50)
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, data, {17: DiskStatus.FAILED})
    assert b.at(requests[17]).error & 0xFFFF == UNREADABLE
    assert b.at(requests[17]).error >> 16 == PortInterrupt.TFES >> 16


@pytest.mark.parametrize("ncq", [True, False])
def test_every_request_in_flight_may_fail(bench, content, ncq):
    medium = FaultInjecting(MemoryMedium(content(400)), bad=range(400))
    b = bench.ahci(AhciController([medium], ncq=ncq))
    requests = requests_in_a_row(b, 40)
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, b"", dict.fromkeys(range(40), DiskStatus.FAILED))


@pytest.mark.parametrize("ncq", [True, False])
def test_sectors_beyond_the_end_are_not_found(bench, content, ncq):
    data = content(39)
    b = bench.ahci(AhciController([MemoryMedium(data)], ncq=ncq))
    requests = requests_in_a_row(b, 10)
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, data, {9: DiskStatus.FAILED})
    assert b.at(requests[9]).error & 0xFFFF == NOT_FOUND


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("bad", [[0], [31], [5], [0, 31], [3, 4, 5], [31, 32, 33]])
@pytest.mark.parametrize("latency", [Latency(), REORDERING], ids=["in order", "out of order"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_a_page_outside_memory_fails_the_request_that_names_it(bench, content, no_log, bad, latency, named):
    """If the drive does not name the command, all in flight run again, one at a time, until the failed one is found."""
    data = content(400)
    controller = AhciController([MemoryMedium(data)], latency=latency)
    if not named:
        no_log(controller)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 40)
    for index in bad:
        b.at(requests[index]).runs[0] = NOWHERE
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, data, dict.fromkeys(bad, DiskStatus.FAILED))
    assert all(b.at(requests[index]).error >> 16 & PortInterrupt.HBFS >> 16 for index in bad)


def test_a_command_that_the_drive_names_fails_alone_and_the_others_go_on_together(bench, content):
    """No reset, and no search for the failed one by running each alone."""
    data = content(400)
    b = bench.ahci(AhciController([FaultInjecting(MemoryMedium(data), bad=[33])], latency=SLOW))
    resets, issues = b.events("disk.comreset"), b.events("disk.issue")
    requests = requests_in_a_row(b, 32)
    b.submit(*requests)
    before = len(issues)
    b.run_until_idle()
    check(b, requests, data, {8: DiskStatus.FAILED})
    assert resets == []
    assert [issue["slots"].bit_count() > 1 for issue in issues[before:]] == [True]


def test_an_error_log_that_cannot_be_read_is_survived(bench, content, no_log):
    data = content(400)
    controller = AhciController([FaultInjecting(MemoryMedium(data), bad=[33, 90])])
    no_log(controller)
    b = bench.ahci(controller)
    resets = b.events("disk.comreset")
    requests = requests_in_a_row(b, 40)
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, data, {8: DiskStatus.FAILED, 22: DiskStatus.FAILED})
    assert resets
    assert b.machine.clock.retired < 500_000, "a refusal has been waited out, not seen"


def test_an_error_log_that_names_an_idle_tag_fails_no_request(bench, content, monkeypatch):
    data = content(400)
    controller = AhciController([FaultInjecting(MemoryMedium(data), bad=[9])], latency=SLOW)
    drive = controller.drives[0].drive

    def wrong(_command):
        drive.queue_error = b""
        return error_log(30, 0, 0, 0, 0)

    monkeypatch.setattr(drive, "_log", wrong)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 5)
    b.submit(*requests)
    b.run_until_idle()
    check(b, requests, data, {2: DiskStatus.FAILED})


def test_requests_that_come_during_recovery_wait_their_turn(bench, content, no_log):
    """Suspects run alone; what is submitted meanwhile is queued and read afterwards."""
    data = content(400)
    controller = AhciController([MemoryMedium(data)], latency=SLOW)
    no_log(controller)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 60)
    b.at(requests[7]).runs[0] = NOWHERE
    b.submit(*requests[:20])
    suspects, flying = [], []
    for request in requests[20:]:
        b.call("linger", interrupts=True, ecx=10_000)
        disk = b.disk(0)
        suspects.append(disk.suspects)
        flying += [(disk.issued & ~disk.parked).bit_count()] if disk.suspects else []
        b.submit(request, interrupts=True)
    assert any(suspects)
    assert all(count <= 1 for count in flying)
    b.run_until_idle()
    check(b, requests, data, {7: DiskStatus.FAILED})


@pytest.mark.parametrize("ncq", [True, False])
def test_unplugging_ends_requests_in_flight_and_in_the_queue(bench, content, ncq):
    controller = AhciController([MemoryMedium(content(400))], ncq=ncq, latency=SLOW)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 50)
    b.submit(*requests)
    controller.unplug(0)
    b.run_until_idle()
    check(b, requests, b"", dict.fromkeys(range(50), DiskStatus.REMOVED))
    assert not b.disk(0).present
    late = b.request(0, 0, 1, b.frames(1))
    b.submit(late)
    assert b.status(late) is DiskStatus.REMOVED
    assert not controller.drives[0].ci


def test_a_medium_that_disappears_within_a_transfer_is_an_unplugged_disk(bench, content):
    """Requests that were read before, but not reported, may count as either."""
    data = content(400)
    medium = FaultInjecting(MemoryMedium(data), removed_after=10)
    b = bench.ahci(AhciController([medium], latency=Latency(command=20_000, reorder=True)))
    requests = requests_in_a_row(b, 50)
    b.submit(*requests)
    b.run_until_idle()
    done = [index for index, request in enumerate(requests) if b.status(request) is DiskStatus.DONE]
    assert 5 <= len(done) <= 10
    removed = set(range(50)) - set(done)
    check(b, requests, data, dict.fromkeys(removed, DiskStatus.REMOVED))
    assert not b.disk(0).present


def test_a_drive_plugged_in_later_is_found(bench, content):
    data = content(80)
    controller = AhciController([MemoryMedium(content(8)), None])
    b = bench.ahci(controller)
    controller.plug(1, MemoryMedium(data))
    b.run_until_idle()
    disk = b.disk(1)
    assert (disk.present, disk.sectors, disk.generation) == (1, 80, 1)
    request = b.request(1, 7, 8, b.frames(1))
    b.submit(request)
    b.run_until_idle()
    assert b.read(request) == data[7 * 512 : 15 * 512]


def test_replugging_counts_generations_and_reads_the_new_medium(bench, content):
    controller = AhciController([MemoryMedium(content(400))], latency=SLOW)
    b = bench.ahci(controller)
    for generation in range(2, 6):
        old = b.request(0, 0, 8, b.frames(1))
        b.submit(old)
        controller.unplug(0)
        b.run_until_idle()
        data = content(300 + generation, generation)
        controller.plug(0, MemoryMedium(data))
        b.run_until_idle()
        disk = b.disk(0)
        assert b.status(old) is DiskStatus.REMOVED
        assert (disk.present, disk.generation, disk.sectors) == (1, generation, 300 + generation)
        request = b.request(0, 1, 8, b.frames(1))
        b.submit(request)
        b.run_until_idle()
        assert b.read(request) == data[512 : 9 * 512]


def test_a_drive_swapped_before_the_interrupt_is_a_new_drive(bench, content):
    controller = AhciController([MemoryMedium(content(400))], latency=SLOW)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 40)
    b.submit(*requests)
    controller.unplug(0)
    controller.plug(0, MemoryMedium(content(50, 3)))
    b.run_until_idle()
    check(b, requests, b"", dict.fromkeys(range(40), DiskStatus.REMOVED))
    assert (b.disk(0).present, b.disk(0).sectors, b.disk(0).generation) == (1, 50, 2)


def test_unplugging_during_recovery_is_noticed(bench, content):
    """The drive is removed while the error log is read: no wait lasts for ever, no request is left."""
    controller = AhciController([FaultInjecting(MemoryMedium(content(400)), bad=[33])], latency=SLOW)
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 40)
    b.submit(*requests)
    b.machine.probe(b.program.address("ahci_await_end"), lambda: controller.unplug(0))
    b.run_until_idle()
    assert sorted(b.done) == requests
    assert {b.status(request) for request in requests[8:]} == {DiskStatus.REMOVED}
    assert not b.disk(0).present


@pytest.mark.thorough(only=True)
def test_an_error_of_one_disk_does_not_affect_another(bench, content):
    data = content(400)
    bad = FaultInjecting(MemoryMedium(content(400, 9)), bad=range(0, 400, 3))
    controller = AhciController([bad, MemoryMedium(data), MemoryMedium(content(8))], latency=SLOW)
    b = bench.ahci(controller)
    noise = requests_in_a_row(b, 40)
    requests = [b.request(1, 4 * i, 4, [HIGH_MEMORY + (64 + i) * PAGE_SIZE]) for i in range(40)]
    for one, other in zip(noise, requests, strict=True):
        b.submit(one, other)
    controller.unplug(2)
    b.run_until_idle()
    assert sorted(b.done) == sorted(noise + requests)
    assert all(b.read(request) == data[i * 2048 : i * 2048 + 2048] for i, request in enumerate(requests))


@pytest.mark.parametrize("for_ever", [False, True])
def test_a_drive_that_stays_busy_after_an_error_is_reset_and_then_given_up(bench, content, monkeypatch, for_ever):
    data = content(400)
    controller = AhciController([MemoryMedium(data)], ncq=False)
    port = controller.drives[0]
    b = bench.ahci(controller)
    requests = requests_in_a_row(b, 6)
    b.at(requests[2]).runs[0] = NOWHERE
    b.submit(*requests)
    resets = b.events("disk.comreset")
    if for_ever:
        monkeypatch.setattr(port, "_sign", lambda: setattr(port, "tfd", int(TaskFile.BSY)))
    b.run_until_idle()
    assert len(resets) == 1
    if for_ever:
        assert {b.status(request) for request in requests[2:]} == {DiskStatus.REMOVED}
        assert not b.disk(0).present
    else:
        check(b, requests, data, {2: DiskStatus.FAILED})


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_request_is_lost_or_done_twice_whatever_happens_to_the_disks(bench, content, no_log, seed):
    chance = random.Random(seed)
    data = content(800)
    bad = chance.sample(range(800), 12)
    controller = AhciController(
        [FaultInjecting(MemoryMedium(data), bad=bad)],
        ncq=chance.random() < 0.7,
        latency=Latency(command=chance.choice([50, 700, 5_000, 40_000]), reorder=chance.random() < 0.5),
    )
    if seed % 2:
        no_log(controller)
    b = bench.ahci(controller)
    requests, plans = [], []
    for index in range(150):
        lba, sectors = chance.randrange(760), chance.randrange(1, 33)
        start = HIGH_MEMORY + index * 8 * PAGE_SIZE
        pages = b.frames(8, start)
        chance.shuffle(pages)
        pages = pages[: -(-sectors // 8)]
        nowhere = chance.random() < 0.04
        if nowhere:
            pages[chance.randrange(len(pages))] = NOWHERE
        request = b.request(0, lba, sectors, pages)
        requests.append(request)
        plans.append((lba, sectors, nowhere))
        b.submit(request, interrupts=chance.random() < 0.8)
    b.run_until_idle()
    assert sorted(b.done) == requests
    for request, (lba, sectors, nowhere) in zip(requests, plans, strict=True):
        fails = nowhere or any(lba <= sector < lba + sectors for sector in bad)
        assert b.status(request) is (DiskStatus.FAILED if fails else DiskStatus.DONE)
        if not fails:
            assert b.read(request) == data[lba * 512 : (lba + sectors) * 512]
