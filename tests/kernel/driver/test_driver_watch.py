"""The watch over silent disks: lost interrupts are made up for, silent drives are reset."""

import pytest
from callgate.disk.ahci.controller import AhciController
from callgate.disk.drives.drive import DriveError
from callgate.disk.drives.latency import Latency
from callgate.disk.ide.controller import IdeController
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.kernel.abi.disks.disk import IDE_FIRST_DISK, DiskStatus

SLOW = Latency(command=50_000)


@pytest.fixture(params=["ncq", "plain", "ide"])
def silent(request, bench, content, monkeypatch):
    """A bench, its data, its disk, and a function that makes the drive never answer reads of a sector."""
    data = content(400)
    if request.param == "ide":
        controller = IdeController([MemoryMedium(data)], latency=SLOW)
        b, disk = bench.devices(controller, ide=0x1F0), IDE_FIRST_DISK
        port = controller.channels[0]
    else:
        controller = AhciController([MemoryMedium(data)], latency=SLOW, ncq=request.param == "ncq")
        b, disk = bench.ahci(controller), 0
        port = controller.drives[0]

    def mute(lba):
        if request.param == "ide":
            original = port.on_event
            ours = lambda: port.command is not None and port.command.lba == lba  # noqa: E731 - one of a pair
            monkeypatch.setattr(port, "on_event", lambda generation: None if ours() else original(generation))
        else:
            original = port.complete

            def complete(tag, generation):
                fetched = port.running.get(tag)
                if generation != port.generation or fetched is None or fetched.command.lba != lba:
                    original(tag, generation)

            monkeypatch.setattr(port, "complete", complete)

    b.controller = controller
    return b, data, disk, mute


def twenty_requests(b, disk):
    pages = b.frames(20)
    return [b.request(disk, 4 * index, 4, [pages[index]]) for index in range(20)]


def check(b, requests, data, failed=()):
    assert sorted(b.done) == requests
    for index, request in enumerate(requests):
        assert b.status(request) is (DiskStatus.FAILED if index in failed else DiskStatus.DONE), index
        assert index in failed or b.read(request) == data[index * 2048 : index * 2048 + 2048]


def test_the_watch_leaves_a_busy_disk_alone(silent):
    """However often it checks: every command makes progress between two checks."""
    b, data, disk, _ = silent
    requests = twenty_requests(b, disk)
    b.submit(*requests)
    timeouts = b.events("disk.timeout")
    for _ in range(40):
        b.call("linger", interrupts=True, ecx=60_000)
        b.call("disk_watch")
    b.run_until_idle()
    check(b, requests, data)
    assert not timeouts


@pytest.mark.thorough(one_in=2)
def test_a_command_that_never_ends_fails_and_the_others_do_not(silent):
    b, data, disk, mute = silent
    mute(4 * 7)
    requests = twenty_requests(b, disk)
    b.submit(*requests)
    for _ in range(6):
        b.call("linger", interrupts=True, ecx=3_000_000)
        b.call("disk_watch")
    b.run_until_idle()
    check(b, requests, data, failed={7})
    record = b.disk(disk)
    assert (record.issued, record.suspects, record.parked, record.watched, record.queue_head) == (0,) * 5


def test_the_watch_makes_up_for_a_lost_interrupt(silent, monkeypatch):
    b, data, disk, _ = silent
    requests = twenty_requests(b, disk)
    with monkeypatch.context() as patch:
        patch.setattr(b.machine.pic, "raise_line", lambda _irq: None)
        b.submit(*requests)
        b.run_until_idle()
        assert not b.done
    timeouts = b.events("disk.timeout")
    for _ in range(2):
        b.call("disk_watch")
    b.run_until_idle()
    check(b, requests, data)
    assert not timeouts


def test_the_watch_costs_little_when_nothing_runs(silent):
    b, _, _, _ = silent
    assert b.call("disk_watch") == 439


def test_a_long_request_is_watched_block_by_block(bench, content):
    data = content(400)
    b = bench.devices(IdeController([MemoryMedium(data)], latency=SLOW), ide=0x1F0)
    request = b.request(IDE_FIRST_DISK, 0, 400, b.frames(50))
    b.submit(request)
    timeouts = b.events("disk.timeout")
    while not b.done:
        b.call("linger", interrupts=True, ecx=60_000)
        b.call("disk_watch")
    assert not timeouts
    assert b.read(request) == data


@pytest.mark.parametrize("log", [True, False], ids=["named", "not named"])
def test_a_command_that_is_repeated_after_an_error_has_a_new_interval(bench, content, monkeypatch, log):
    """A drive's answer is a sign of life of all of its commands; suspects are watched when their turn comes."""
    data = content(400)
    controller = AhciController([FaultInjecting(MemoryMedium(data), bad=[2])], latency=SLOW)
    drive = controller.drives[0].drive
    if not log:
        monkeypatch.setattr(drive, "_log", refuse)
    b = bench.ahci(controller)
    requests = twenty_requests(b, 0)
    b.submit(*requests)
    timeouts = b.events("disk.timeout")
    b.call("disk_watch")
    while len(b.done) < 20:
        b.call("linger", interrupts=True, ecx=75_000)
        b.call("disk_watch")
    check(b, requests, data, failed={0})
    assert not timeouts


def refuse(_command):
    raise DriveError(0x04, "no log")
