"""Both drivers under random loads: every request ends once, with the right bytes or a reason."""

import os
import random

import pytest
from callgate.disk.ahci.controller import AhciController
from callgate.disk.drives.latency import Latency
from callgate.disk.ide.controller import IdeController
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.kernel.abi.disks.disk import IDE_FIRST_DISK, DiskStatus
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE

SEEDS = int(os.environ.get("CALLGATE_SEEDS", "1"))  # how many runs; the checks of a change make more
SECTORS = 300
MOST = 40  # sectors of a request
PAGES = MOST // 8


def random_request(b, chance, disk, number):
    """Make a request somewhere on a disk, with shuffled pages of its own."""
    sectors = chance.randrange(1, MOST + 1)
    lba = chance.randrange(SECTORS - sectors + 1)
    pages = b.frames(PAGES, HIGH_MEMORY + number * PAGES * PAGE_SIZE)
    chance.shuffle(pages)
    return b.request(disk, lba, sectors, pages[: -(-sectors // 8)])


def content_of(data, request):
    return data[request.lba * 512 : (request.lba + request.sectors) * 512]


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_ahci_and_ide_disks_are_read_at_the_same_time(bench, content, seed):
    """Bad sectors on every disk; interrupts of three lines come at any moment."""
    chance = random.Random(seed)
    numbers = [0, 1, *(IDE_FIRST_DISK + device for device in range(4))]
    data = {number: content(SECTORS, number) for number in numbers}
    bad = {number: chance.sample(range(SECTORS), 3) for number in numbers}
    media = [FaultInjecting(MemoryMedium(data[number]), bad=bad[number]) for number in numbers]
    delay = chance.choice([20, 500, 20_000])
    latency = Latency(command=delay, reorder=chance.random() < 0.5)
    ahci = AhciController(media[:2], latency=latency, ncq=chance.random() < 0.7)
    b = bench.devices(ahci, IdeController(media[2:], latency=Latency(command=delay)), ahci=True, ide=0x1F0)
    requests = []
    for number in range(120):
        requests.append(random_request(b, chance, chance.choice(numbers), number))
        b.submit(requests[-1], interrupts=chance.random() < 0.8)
    b.run_until_idle()
    assert sorted(b.done) == requests
    for address in requests:
        request = b.at(address)
        fails = any(request.lba <= sector < request.lba + request.sectors for sector in bad[request.disk])
        assert b.status(address) is (DiskStatus.FAILED if fails else DiskStatus.DONE)
        assert fails or b.read(address) == content_of(data[request.disk], request)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_drives_can_be_plugged_and_unplugged_at_random_while_they_are_read(bench, content, seed):
    """A request that is done holds one medium's bytes, never parts of two."""
    chance = random.Random(seed)
    generations = [content(SECTORS, 0)]
    latency = Latency(command=chance.choice([100, 3_000, 30_000]), reorder=chance.random() < 0.5)
    ahci = AhciController([MemoryMedium(generations[0])], latency=latency, ncq=chance.random() < 0.7)
    b = bench.ahci(ahci)
    requests, plugged = [], True
    for number in range(150):
        requests.append(random_request(b, chance, 0, number))
        b.submit(requests[-1], interrupts=chance.random() < 0.8)
        if chance.random() < 0.3:
            b.call("linger", interrupts=True, ecx=chance.randrange(1, 40_000))
        if chance.random() < 0.15:
            if plugged:
                ahci.unplug(0)
            else:
                generations.append(content(SECTORS, len(generations)))
                ahci.plug(0, MemoryMedium(generations[-1]))
            plugged = not plugged
    b.run_until_idle()
    assert sorted(b.done) == requests
    statuses = [b.status(address) for address in requests]
    assert set(statuses) == {DiskStatus.DONE, DiskStatus.REMOVED}
    for address, status in zip(requests, statuses, strict=True):
        if status is DiskStatus.DONE:
            assert b.read(address) in [content_of(data, b.at(address)) for data in generations]
    disk = b.disk(0)
    assert (disk.issued, disk.suspects, disk.parked, disk.queue_head, disk.queue_tail) == (0,) * 5
    assert disk.present == int(plugged)
    assert 2 < disk.generation <= len(generations), "a drive that went before the interrupt was never seen"
