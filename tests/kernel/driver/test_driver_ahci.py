"""The AHCI driver: finding disks, reading, queueing."""

import pytest
from callgate.disk.ahci.controller import AhciController
from callgate.disk.drives import drive
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.disks.ahci import Capabilities, CommandHeader, HbaRegisters, HostControl, PrdtEntry
from callgate.kernel.abi.disks.disk import DISK_REQUEST_PAGES, DISK_REQUEST_RUNS, DISKS, DiskStatus
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_BASE, PAGE_SIZE

REORDERING = Latency(command=40_000, reorder=True)
UNTOUCHED = b"\xa5"


def test_identify_fills_the_disk_table(bench, content):
    b = bench.ahci(AhciController([MemoryMedium(content(300))]))
    disk = b.disk(0)
    assert (disk.present, disk.sectors, disk.queue_depth, disk.generation) == (1, 300, 32, 1)
    assert bytes(disk.model).rstrip() == b"CALLGATE VIRTUAL DISK"
    assert [b.disk(number).present for number in range(DISKS)] == [1] + [0] * (DISKS - 1)


def test_disks_keep_the_number_of_their_port(bench, content):
    media = [None, MemoryMedium(content(10)), None, MemoryMedium(content(20))]
    b = bench.ahci(AhciController(media))
    assert [b.disk(number).present for number in range(5)] == [0, 1, 0, 1, 0]
    assert [b.disk(number).sectors for number in (1, 3)] == [10, 20]


def test_a_drive_without_ncq_gets_one_command_at_a_time(bench, content):
    b = bench.ahci(AhciController([MemoryMedium(content(300))], ncq=False))
    assert b.disk(0).queue_depth == 1


def test_the_controllers_slots_limit_the_queue_depth(bench, content, monkeypatch):
    plain = AhciController.capabilities.fget(AhciController([MemoryMedium(content(8))]))
    value = plain & ~(0x1F << 8) | 7 << 8
    monkeypatch.setattr(AhciController, "capabilities", value)
    assert bench.ahci(AhciController([MemoryMedium(content(8))])).disk(0).queue_depth == 8


@pytest.fixture
def identify_with(monkeypatch):
    """Replace words of the drives' IDENTIFY DEVICE."""

    def replace(words):
        def identify(*arguments, **options):
            data = bytearray(original(*arguments, **options))
            for word, value in words.items():
                data[2 * word : 2 * word + 2] = value.to_bytes(2, "little")
            return bytes(data)

        original = drive.identify
        monkeypatch.setattr(drive, "identify", identify)

    return replace


def test_the_drives_queue_limits_the_queue_depth(bench, content, identify_with):
    identify_with({75: 3})
    b = bench.ahci(AhciController([MemoryMedium(content(8))]))
    assert b.disk(0).queue_depth == 4


@pytest.mark.parametrize(
    ("word", "value"),
    [(0, 0x8000), (83, 0x4000), (83, 0x0400), (106, 0x5000), (100, 0)],
    ids=["packet device", "no 48-bit addresses", "word 83 invalid", "sectors of 4 KiB", "no sectors"],
)
def test_an_unusable_drive_is_left_alone(bench, content, identify_with, word, value):
    identify_with({word: value})
    b = bench.ahci(AhciController([MemoryMedium(content(8))]))
    assert not b.disk(0).present


def test_a_controller_without_64_bit_addresses_is_not_used(bench, content, monkeypatch):
    controller = AhciController([MemoryMedium(content(8))])
    monkeypatch.setattr(AhciController, "capabilities", controller.capabilities & ~int(Capabilities.S64A))
    b = bench.ahci(controller)
    assert not b.disk(0).present


def test_a_controller_that_hangs_in_reset_does_not_hang_the_kernel(bench, content):
    class Hanging(AhciController):
        def _control(self, value):
            self.ghc = value  # HR stays

    b = bench.ahci(Hanging([MemoryMedium(content(8))]))
    assert not b.disk(0).present


def test_a_machine_without_controllers_has_no_disks(bench):
    b = bench.devices()
    assert not any(b.disk(number).present for number in range(DISKS))
    request = b.request(0, 0, 1, b.frames(1))
    b.submit(request)
    assert b.status(request) is DiskStatus.REMOVED


def test_interrupts_are_enabled_last(bench, content):
    controller = AhciController([MemoryMedium(content(8))])
    b = bench.ahci(controller)
    assert controller.ghc == HostControl.AE | HostControl.IE
    assert not b.machine.ledger.interrupts


@pytest.mark.parametrize("ncq", [True, False])
def test_an_ahci_read_fills_its_page_and_nothing_else(bench, content, ncq):
    data = content(64)
    b = bench.ahci(AhciController([MemoryMedium(data)], ncq=ncq))
    page = b.frames(3)
    b.machine.ram.view(page[0], 3 * 4096)[:] = UNTOUCHED * (3 * 4096)
    b.machine.ram.view(0, 4096)[:] = UNTOUCHED * 4096
    request = b.request(0, 9, 5, page[1:2])
    b.submit(request)
    assert b.status(request) is DiskStatus.ACTIVE
    b.run_until_idle()
    assert b.done == [request]
    assert b.status(request) is DiskStatus.DONE
    assert b.read(request) == data[9 * 512 : 14 * 512]
    rest = 4096 * 2 - 5 * 512
    assert b.machine.ram.read(page[1] + 5 * 512, rest) == UNTOUCHED * rest
    assert b.machine.ram.read(page[0], 4096) == b.machine.ram.read(0, 4096) == UNTOUCHED * 4096


def largest():
    """Return as many runs as a request can have, of all its pages, from high addresses down, with room between them."""
    pages = [9] * (DISK_REQUEST_RUNS - 1)
    pages.append(DISK_REQUEST_PAGES - sum(pages))
    places = [HIGH_MEMORY + (16 << 20) - 64 * PAGE_SIZE * index for index in range(DISK_REQUEST_RUNS)]
    return [place | count - 1 for place, count in zip(places, pages, strict=True)]


@pytest.mark.parametrize("ncq", [True, False])
def test_the_largest_request_scatters_over_pages_above_4_gib(bench, content, ncq):
    data = content(8 * DISK_REQUEST_PAGES + 3)
    b = bench.ahci(AhciController([MemoryMedium(data)], ncq=ncq))
    request = b.request(0, 3, 8 * DISK_REQUEST_PAGES, largest())
    b.submit(request)
    b.run_until_idle()
    assert b.status(request) is DiskStatus.DONE
    assert b.read(request) == data[3 * 512 :]


def prdt(b, port, slot):
    """Return (address, bytes) of a command's regions."""
    header = b.overlay(CommandHeader, b.program.address("command_lists") + port * 1024 + slot * 32)
    table = header.ctba + KERNEL_BASE + 0x80
    entries = [b.overlay(PrdtEntry, table + 16 * index) for index in range(header.flags >> 16)]
    return [(entry.dba, entry.dbc + 1) for entry in entries]


def test_adjacent_pages_share_a_prdt_entry(bench, content):
    data = content(64)
    b = bench.ahci(AhciController([MemoryMedium(data)]))
    a, z, q = HIGH_MEMORY + 0x10_0000, HIGH_MEMORY + 0x20_0000, HIGH_MEMORY + 0x30_0000
    request = b.request(0, 1, 6 * 8 - 5, [a, a + 0x1000, z + 0x1000, z, q, q + 0x1000])
    b.submit(request)
    assert prdt(b, 0, 0) == [(a, 0x2000), (z + 0x1000, 0x1000), (z, 0x1000), (q, 0x1000 + 3 * 512)]
    b.run_until_idle()
    assert b.read(request) == data[512 : 44 * 512]


def test_a_page_at_4_gib_does_not_continue_one_that_ends_there(bench, content):
    """The 64-bit end of an entry is compared whole: 4 GiB is not 0, and 0 is not 4 GiB."""
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    low = 0x00F0_0000
    request = b.request(0, 0, 16, [HIGH_MEMORY + low - 0x1000, low])
    b.submit(request)
    assert prdt(b, 0, 0) == [(HIGH_MEMORY + low - 0x1000, 0x1000), (low, 0x1000)]


@pytest.mark.parametrize(("next_page", "entries"), [(0x2_0000_0000, 1), (0x1_0000_0000, 2)])
def test_entries_grow_across_a_multiple_of_4_gib(bench, content, next_page, entries):
    """There is no memory at either address: only the values given to the controller are examined."""
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    b.submit(b.request(0, 0, 16, [0x1_FFFF_F000, next_page]))
    assert len(prdt(b, 0, 0)) == entries


def test_a_request_that_was_queued_before_can_be_used_again(bench, content):
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    first, second = b.request(0, 0, 1, b.frames(1)), b.request(0, 1, 1, b.frames(1))
    b.at(first).next = b.at(second).next = first
    b.submit(first)
    b.run_until_idle()
    b.submit(second)
    b.run_until_idle()
    assert b.done == [first, second]
    assert not b.disk(0).queue_head


@pytest.mark.parametrize("ncq", [True, False])
def test_sector_numbers_reach_the_drive_with_48_bits(bench, content, ncq):
    class Enormous(MemoryMedium):
        sector_count = 1 << 48
        lba = -1

        def read_into(self, lba, views):
            self.lba = lba
            super().read_into(0, views)

    medium = Enormous(content(64))
    b = bench.ahci(AhciController([medium], ncq=ncq))
    assert b.disk(0).sectors == 1 << 48
    request = b.request(0, 0xFEDC_BA98_7654, 8, b.frames(1))
    b.submit(request)
    b.run_until_idle()
    assert b.status(request) is DiskStatus.DONE
    assert medium.lba == 0xFEDC_BA98_7654


def test_thirty_two_commands_are_in_flight_and_finish_out_of_order(bench, content):
    data = content(40 * 8)
    b = bench.ahci(AhciController([MemoryMedium(data)], latency=REORDERING))
    pages = b.frames(33)
    requests = [b.request(0, 8 * index, 8, [pages[index]]) for index in range(33)]
    b.submit(*requests)
    assert [b.status(request) for request in requests] == [DiskStatus.ACTIVE] * 32 + [DiskStatus.QUEUED]
    assert b.disk(0).issued == 0xFFFF_FFFF
    b.run_until_idle()
    assert sorted(b.done) == requests
    assert b.done != requests
    for index, request in enumerate(requests):
        assert b.status(request) is DiskStatus.DONE
        assert b.read(request) == data[index * 4096 : index * 4096 + 4096]


@pytest.mark.parametrize("ncq", [True, False])
def test_a_queue_of_a_hundred_requests_is_served_in_order(bench, content, ncq):
    data = content(400)
    b = bench.ahci(AhciController([MemoryMedium(data)], ncq=ncq))
    pages = b.frames(100)
    taken = b.events("disk.issue")
    requests = [b.request(0, 3 * index, 3, [pages[index]]) for index in range(100)]
    b.submit(*requests)
    b.run_until_idle()
    assert b.done == requests
    assert len(taken) <= 100
    assert all(b.read(request) == data[i * 1536 : i * 1536 + 1536] for i, request in enumerate(requests))
    disk = b.disk(0)
    assert (disk.issued, disk.queue_head, disk.queue_tail) == (0, 0, 0)


@pytest.mark.parametrize("command", [7, 60, 400, 3000])
def test_submitting_is_safe_against_interrupts(bench, content, command):
    data = content(400)
    b = bench.ahci(AhciController([MemoryMedium(data)], latency=Latency(command=command)))
    pages = b.frames(100)
    requests = [b.request(0, 3 * index, 3, [pages[index]]) for index in range(100)]
    b.submit(*requests, interrupts=True)
    b.run_until_idle()
    assert sorted(b.done) == requests
    assert all(b.read(request) == data[i * 1536 : i * 1536 + 1536] for i, request in enumerate(requests))


def test_ahci_ports_work_at_the_same_time(bench, content):
    data = [content(64, seed) for seed in range(4)]
    b = bench.ahci(AhciController([MemoryMedium(item) for item in data], latency=REORDERING))
    pages = b.frames(16)
    requests = [b.request(index % 4, index, 2, [pages[index]]) for index in range(16)]
    b.submit(*requests)
    b.run_until_idle()
    assert sorted(b.done) == requests
    for index, request in enumerate(requests):
        assert b.read(request) == data[index % 4][index * 512 : index * 512 + 1024]


def test_a_request_can_be_reused_as_soon_as_its_end_is_reported(bench, content):
    """Policy reuses the memory inside DISK_DONE: the driver must not look at it again."""
    b = bench.ahci(AhciController([MemoryMedium(content(400))]))
    pages = b.frames(50)
    view = b.machine.ram.view

    def scribble(address):
        view(address - KERNEL_BASE, 512)[:] = b"\xff" * 512

    b.on_done = scribble
    requests = [b.request(0, index, 1, [pages[index]]) for index in range(50)]
    b.submit(*requests)
    b.run_until_idle()
    assert b.done == requests


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_count", 0),
        ("run_count", 1),
        ("run_count", DISK_REQUEST_RUNS + 1),
        ("run_count", 0xFFFF_FFFF),
        ("sectors", 0),
        ("sectors", 17),
        ("sectors", 8 * DISK_REQUEST_PAGES + 1),
        ("sectors", 0xFFFF_FFFF),
        ("lba", 1 << 48),
    ],
)
def test_a_request_that_no_command_can_express_fails_at_once(bench, content, field, value):
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    request = b.request(0, 0, 16, b.frames(2))
    setattr(b.at(request), field, value)
    b.submit(request)
    assert b.done == [request]
    assert b.status(request) is DiskStatus.FAILED
    assert b.at(request).error == 0x0441
    assert not b.disk(0).issued


def test_a_request_for_more_sectors_than_a_command_takes_fails_at_once_although_its_runs_have_room(bench, content):
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    requests = [b.request(0, 0, 8 * DISK_REQUEST_PAGES + more, [HIGH_MEMORY | 1023]) for more in (1, 8, 0)]
    b.submit(*requests)
    b.run_until_idle()
    assert [b.at(request).error & 0xFFFF for request in requests] == [0x0441, 0x0441, 0x1051]
    assert b.done == requests, "the last one is for the drive to refuse: it has 64 sectors"


@pytest.mark.parametrize("number", [1, 35, 36, 0xFFFF])
def test_a_request_for_no_disk_ends_at_once(bench, content, number):
    b = bench.ahci(AhciController([MemoryMedium(content(64))]))
    request = b.request(number, 0, 1, b.frames(1))
    b.submit(request)
    assert b.done == [request]
    assert b.status(request) is DiskStatus.REMOVED


def test_a_port_that_interrupts_without_pause_does_not_keep_the_cpu(bench, content):
    class Restless(AhciController):
        left = 0

        def mmio_read(self, address, size):
            if address == self.base + offset_of(HbaRegisters, "is_") and self.left:
                self.left -= 1
                self.interrupts |= 1
            return super().mmio_read(address, size)

    controller = Restless([MemoryMedium(content(64))])
    b = bench.ahci(controller)
    entries = []
    b.machine.probe(b.program.address("ahci_interrupt"), lambda: entries.append(controller.left))
    request = b.request(0, 0, 1, b.frames(1))
    b.submit(request)
    controller.left = 100
    b.run_until_idle()
    assert b.status(request) is DiskStatus.DONE
    assert [entries[0] - entries[1], entries[1] - entries[2]] == [16, 16]
    again = b.request(0, 5, 1, b.frames(1))
    b.submit(again)
    b.run_until_idle()
    assert b.status(again) is DiskStatus.DONE


@pytest.mark.parametrize(
    ("runs", "submit"),
    [([0], 161), ([511], 161), ([2 * page * PAGE_SIZE for page in range(8)], 364), ([0, PAGE_SIZE | 6], 186)],
    ids=["page", "run", "scattered", "merged"],
)
def test_ahci_requests_cost_what_the_budget_says(bench, content, runs, submit):
    """Instructions on an idle disk: counts do not vary, so the budget is exact."""
    pages = sum(run % PAGE_SIZE + 1 for run in runs)
    b = bench.ahci(AhciController([MemoryMedium(content(8 * pages))]))
    request = b.request(0, 0, 8 * pages, [HIGH_MEMORY + run for run in runs])
    assert b.call("disk_submit", ebx=request) == submit
    clock = []
    for label in ("ahci_interrupt", "end"):
        b.machine.probe(b.program.address(label), lambda: clock.append(b.machine.clock.retired))
    b.run_until_idle()
    assert clock[1] - clock[0] == 92
