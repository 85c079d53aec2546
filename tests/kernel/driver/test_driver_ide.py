"""The IDE driver: PIO through the window, block by block at interrupts."""

import pytest
from callgate.disk.drives.drive import Drive, DriveError
from callgate.disk.drives.latency import Latency
from callgate.disk.ide.channel import Channel
from callgate.disk.ide.controller import IdeController
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.kernel.abi.disks.disk import DISK_REQUEST_PAGES, DISKS, IDE_FIRST_DISK, DiskStatus
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_WINDOW, PAGE_SIZE

FIRST = IDE_FIRST_DISK
PRIMARY = 0x1F0
BLOCK = 16  # sectors of a READ MULTIPLE block of our drives
UNTOUCHED = b"\xa5"


@pytest.fixture
def ide(bench):
    def make(*media, latency=None):
        b = bench.devices(IdeController(media, latency=latency), ide=PRIMARY)
        b.controller = b.machine.devices["ide"]
        return b

    return make


@pytest.fixture(params=["multiple", "single"])
def blocks(request, monkeypatch):
    """Run with drives that hand over a block at an interrupt, and with drives that know no multiple mode."""
    if request.param == "single":
        monkeypatch.setattr("callgate.disk.drives.ata.MULTIPLE_LIMIT", 0)
        monkeypatch.setattr("callgate.disk.drives.drive.MULTIPLE_LIMIT", 0)
    return BLOCK if request.param == "multiple" else 1


def test_the_ide_driver_finds_four_drives(ide, content):
    b = ide(*(MemoryMedium(content(10 * number)) for number in (1, 2, 3, 4)))
    disks = [b.disk(FIRST + number) for number in range(4)]
    assert [(disk.present, disk.sectors) for disk in disks] == [(1, 10), (1, 20), (1, 30), (1, 40)]
    assert {(disk.queue_depth, disk.block_sectors, disk.generation) for disk in disks} == {(1, BLOCK, 1)}
    assert bytes(disks[3].model).rstrip() == b"CALLGATE VIRTUAL DISK"
    assert not any(b.disk(number).present for number in range(FIRST))


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("places", [[0], [1], [2], [0, 3], [1, 2]])
def test_absent_ide_drives_are_not_found(ide, content, places):
    b = ide(*(MemoryMedium(content(8)) if number in places else None for number in range(4)))
    assert [number for number in range(DISKS) if b.disk(number).present] == [FIRST + number for number in places]


def test_a_bus_without_a_controller_has_no_drives(bench):
    b = bench.devices(ide=PRIMARY)
    assert not any(b.disk(number).present for number in range(DISKS))


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("device", range(4))
def test_an_ide_read_fills_its_page_and_nothing_else(ide, content, blocks, device):
    data = content(64, device)
    media = [MemoryMedium(content(64, 10 + number)) for number in range(4)]
    media[device] = MemoryMedium(data)
    b = ide(*media)
    page = b.frames(3)
    b.machine.ram.view(page[0], 3 * 4096)[:] = UNTOUCHED * (3 * 4096)
    b.machine.ram.view(0, 4096)[:] = UNTOUCHED * 4096
    request = b.request(FIRST + device, 9, 5, page[1:2])
    b.submit(request)
    assert b.status(request) is DiskStatus.ACTIVE
    b.run_until_idle()
    assert b.done == [request]
    assert b.status(request) is DiskStatus.DONE
    assert b.read(request) == data[9 * 512 : 14 * 512]
    rest = 4096 * 2 - 5 * 512
    assert b.machine.ram.read(page[1] + 5 * 512, rest) == UNTOUCHED * rest
    assert b.machine.ram.read(page[0], 4096) == b.machine.ram.read(0, 4096) == UNTOUCHED * 4096


def scattered(sectors):
    """Return runs of 1, 5 and 24 pages for a number of sectors, from high addresses down, with room between them."""
    pages, found = -(-sectors // 8), []
    while pages > 0:
        count = (1, 5, 24)[len(found) % 3]
        found.append(HIGH_MEMORY + (16 << 20) - 64 * PAGE_SIZE * len(found) | count - 1)
        pages -= count
    return found


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("sectors", [1, 7, 8, 9, 15, 16, 17, 100, 8 * DISK_REQUEST_PAGES])
def test_requests_of_any_length_scatter_over_pages_above_4_gib(ide, content, blocks, sectors):
    data = content(8 * DISK_REQUEST_PAGES + 3)
    b = ide(MemoryMedium(data))
    request = b.request(FIRST, 3, sectors, scattered(sectors))
    b.submit(request)
    b.run_until_idle()
    assert b.status(request) is DiskStatus.DONE
    assert b.read(request) == data[3 * 512 : (3 + sectors) * 512]
    assert sum(b.machine.ledger.counts().interrupts.values()) == -(-sectors // blocks)


def test_the_kernel_window_is_closed_after_each_block_and_its_use_is_counted(ide, content, blocks):
    b = ide(MemoryMedium(content(64)))
    before = b.machine.ledger.counts()
    request = b.request(FIRST, 0, 16, b.frames(2, step=2 * PAGE_SIZE))
    b.submit(request)
    b.run_until_idle()
    counts = b.machine.ledger.counts() - before
    opened, closed = (2, 1) if blocks == BLOCK else (16, 16)
    assert (counts.pte_writes, counts.tlb_invalidations) == (opened + closed, opened + closed)
    assert b.machine.paging.walk(KERNEL_WINDOW).physical is None


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("interrupts", [False, True])
def test_a_queue_of_a_hundred_ide_requests_is_served_in_order(ide, content, interrupts):
    data = content(400)
    b = ide(MemoryMedium(data))
    pages = b.frames(100)
    requests = [b.request(FIRST, 3 * index, 3, [pages[index]]) for index in range(100)]
    b.submit(*requests, interrupts=interrupts)
    b.run_until_idle()
    assert b.done == requests
    assert all(b.read(request) == data[i * 1536 : i * 1536 + 1536] for i, request in enumerate(requests))
    disk = b.disk(FIRST)
    assert (disk.issued, disk.queue_head, disk.queue_tail) == (0, 0, 0)


def test_two_drives_of_a_channel_take_turns(ide, content):
    data = [content(64, seed) for seed in range(2)]
    b = ide(*(MemoryMedium(item) for item in data))
    pages = b.frames(20)
    requests = [b.request(FIRST + index // 10, index, 1, [pages[index]]) for index in range(20)]
    b.submit(*requests)
    b.run_until_idle()
    assert b.done == [request for pair in zip(requests[:10], requests[10:], strict=True) for request in pair]
    assert all(b.read(r) == data[i // 10][i * 512 : i * 512 + 512] for i, r in enumerate(requests))


def test_two_channels_work_at_the_same_time(ide, content):
    data = [content(200, seed) for seed in range(4)]
    b = ide(*(MemoryMedium(item) for item in data))
    pages = b.frames(160)
    requests = [b.request(FIRST + i % 4, i, 20, pages[4 * i : 4 * i + 3]) for i in range(20)]
    b.submit(*requests, interrupts=True)
    b.run_until_idle()
    assert sorted(b.done) == requests
    assert all(b.read(r) == data[i % 4][i * 512 : (i + 20) * 512] for i, r in enumerate(requests))


def test_sector_numbers_reach_the_drive_with_48_bits(ide, content):
    class Enormous(MemoryMedium):
        sector_count = 1 << 48
        lba = -1

        def read_into(self, lba, views):
            self.lba = lba
            super().read_into(0, views)

    medium = Enormous(content(64))
    b = ide(medium)
    request = b.request(FIRST, 0xFEDC_BA98_7654, 8, b.frames(1))
    b.submit(request)
    b.run_until_idle()
    assert b.status(request) is DiskStatus.DONE
    assert medium.lba == 0xFEDC_BA98_7654


@pytest.mark.thorough(one_in=2)
def test_a_medium_error_fails_its_request_and_no_other(ide, content, blocks):
    data = content(1000)
    b = ide(FaultInjecting(MemoryMedium(data), bad=[20 * 17 + 13]))
    pages = b.frames(150)
    requests = [b.request(FIRST, 20 * i, 20, pages[3 * i : 3 * i + 3]) for i in range(22)]
    b.submit(*requests)
    b.run_until_idle()
    assert b.done == requests
    for index, request in enumerate(requests):
        if index == 17:
            assert b.status(request) is DiskStatus.FAILED
            assert b.at(request).error & 0x4001 == 0x4001
        else:
            assert b.status(request) is DiskStatus.DONE
            assert b.read(request) == data[index * 20 * 512 : (index + 1) * 20 * 512]


def test_sectors_beyond_the_end_are_not_found(ide, content):
    b = ide(MemoryMedium(content(30)))
    good, bad = b.request(FIRST, 29, 1, b.frames(1)), b.request(FIRST, 29, 2, b.frames(1))
    b.submit(bad, good)
    b.run_until_idle()
    assert (b.status(good), b.status(bad)) == (DiskStatus.DONE, DiskStatus.FAILED)
    assert b.at(bad).error & 0x1001 == 0x1001


SLOW = Latency(command=50_000)


def ten_requests(b, device=0):
    return [
        b.request(FIRST + device, 8 * i, 8, b.frames(1, HIGH_MEMORY + (16 * device + i) * PAGE_SIZE)) for i in range(10)
    ]


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("partner", [False, True], ids=["alone", "with another drive"])
def test_a_drive_that_vanishes_while_a_command_runs_is_removed(ide, content, device, partner):
    """A bus without the drive gives no sign: the watch finds it empty, or device 0 does not answer."""
    data = content(100, 7)
    media = [MemoryMedium(data) if partner else None] * 2
    media[device] = MemoryMedium(content(100))
    b = ide(*media, latency=SLOW)
    requests = ten_requests(b, device)
    b.submit(*requests)
    others = ten_requests(b, 1 - device) if partner else []
    b.submit(*others)
    b.controller.unplug(device)
    b.run_until_idle()
    b.call("disk_watch")
    b.call("disk_watch")
    b.run_until_idle()
    assert sorted(b.done) == sorted(requests + others)
    assert {b.status(request) for request in requests} == {DiskStatus.REMOVED}
    assert all(b.read(request) == data[4096 * i : 4096 * i + 4096] for i, request in enumerate(others))
    assert [b.disk(FIRST + number).present for number in (device, 1 - device)] == [0, int(partner)]


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("device", [0, 1])
def test_a_drive_that_vanishes_while_idle_is_missed_at_the_next_request(ide, content, device):
    b = ide(MemoryMedium(content(100)), MemoryMedium(content(100)))
    b.controller.unplug(device)
    b.run_until_idle()
    requests = ten_requests(b, device)
    b.submit(*requests)
    assert b.done == requests
    assert {b.status(request) for request in requests} == {DiskStatus.REMOVED}
    assert b.machine.clock.retired < 200_000, "absence has been waited out, not seen"


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("partner", [False, True], ids=["alone", "with another drive"])
def test_an_interrupt_from_a_place_without_a_drive_is_an_unplug(ide, content, device, partner):
    media = [MemoryMedium(content(100)) if partner else None] * 2
    media[device] = MemoryMedium(content(100))
    b = ide(*media, latency=SLOW)
    requests = ten_requests(b, device)
    b.submit(*requests)
    b.controller.unplug(device)
    b.call("ide_interrupt")
    assert b.done == requests
    assert {b.status(request) for request in requests} == {DiskStatus.REMOVED}


def test_a_busy_drives_other_status_bits_mean_nothing(ide, content, monkeypatch):
    """While BSY is set DRQ and ERR are not valid; the other channel's interrupts have the driver look."""

    def busy(channel):
        original(channel)
        channel.status[channel.active] |= 0x09

    original = Channel._busy
    monkeypatch.setattr(Channel, "_busy", busy)
    data = [content(200, seed) for seed in range(3)]
    b = ide(*(MemoryMedium(item) for item in data))
    requests = [b.request(FIRST + i % 3, i, 20, b.frames(3, HIGH_MEMORY + i * 3 * PAGE_SIZE)) for i in range(15)]
    b.submit(*requests, interrupts=True)
    b.run_until_idle()
    assert sorted(b.done) == requests
    assert all(b.read(r) == data[i % 3][i * 512 : (i + 20) * 512] for i, r in enumerate(requests))


def test_an_interrupt_without_data_is_ignored(ide, content):
    data = content(100)
    b = ide(MemoryMedium(data), latency=SLOW)
    request = b.request(FIRST, 0, 8, b.frames(1))
    b.submit(request)
    status = b.controller.channels[0].status
    status[0], kept = 0x50, status[0]
    b.call("ide_interrupt")
    assert not b.done
    status[0] = kept
    b.run_until_idle()
    assert b.read(request) == data[:4096]


def test_a_drive_that_refuses_multiple_mode_transfers_single_sectors(ide, content, monkeypatch):
    def refuse(_drive, _count):
        raise DriveError(0x04, "no multiple mode")

    monkeypatch.setattr(Drive, "_set_multiple", refuse)
    data = content(100)
    b = ide(MemoryMedium(data))
    assert b.disk(FIRST).block_sectors == 1
    request = b.request(FIRST, 0, 20, b.frames(3))
    b.submit(request)
    b.run_until_idle()
    assert b.read(request) == data[: 20 * 512]


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("for_ever", [False, True])
def test_an_ide_drive_that_stays_busy_is_reset_and_then_given_up(ide, content, monkeypatch, for_ever):
    data, other = content(100), content(100, 5)
    b = ide(MemoryMedium(data), MemoryMedium(other))
    channel = b.controller.channels[0]
    requests = ten_requests(b)
    channel.status[0] = 0x80
    if for_ever:
        monkeypatch.setattr(channel, "_sign", lambda: None)
    b.submit(*requests)
    b.run_until_idle()
    assert b.done == requests
    if for_ever:
        assert b.status(requests[0]) is DiskStatus.REMOVED
        assert not b.disk(FIRST).present
    else:
        assert b.status(requests[0]) is DiskStatus.FAILED
        assert b.at(requests[0]).error == 0x80
        assert [b.disk(FIRST + device).block_sectors for device in (0, 1)] == [1, 1]
        assert all(b.read(r) == data[4096 * i : 4096 * i + 4096] for i, r in enumerate(requests) if i)
        request = ten_requests(b, 1)[3]
        b.submit(request)
        b.run_until_idle()
        assert b.read(request) == other[3 * 4096 : 4 * 4096]


@pytest.mark.parametrize(
    ("field", "value"),
    [("run_count", 0), ("run_count", 1), ("sectors", 0), ("sectors", 17), ("lba", 1 << 48), ("disk", DISKS)],
)
def test_a_request_that_no_ide_command_can_express_ends_at_once(ide, content, field, value):
    b = ide(MemoryMedium(content(64)))
    request = b.request(FIRST, 0, 16, b.frames(2))
    setattr(b.at(request), field, value)
    b.submit(request)
    assert b.done == [request]
    assert b.status(request) in (DiskStatus.FAILED, DiskStatus.REMOVED)


@pytest.mark.parametrize(("sectors", "submit", "complete"), [(8, 143, 1203), (64, 192, 9149)])
def test_ide_requests_cost_what_the_budget_says(ide, content, sectors, submit, complete):
    """Instructions on an idle disk; REP INSD counts once for each dword, as it retires."""
    b = ide(MemoryMedium(content(64)))
    request = b.request(FIRST, 0, sectors, b.frames(sectors // 8))
    cost = b.call("disk_submit", ebx=request)
    clock = []
    for label in ("ide_interrupt", "end"):
        b.machine.probe(b.program.address(label), lambda: clock.append(b.machine.clock.retired))
    b.run_until_idle()
    spent = sum(clock[1::2]) - sum(clock[::2])
    assert (cost, spent) == (submit, complete)
