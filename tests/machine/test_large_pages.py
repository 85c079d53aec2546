"""High memory in large pages of the host, where it has any: what is in it, and what a snapshot makes of it."""

from pathlib import Path

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory import ram
from callgate.kernel.machine.memory.accounts import Account

LARGE = 2 << 20
OFFER = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_bytes(region):
    """Return how many bytes of a region the host has in large pages."""
    found, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in line.split()[0]:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            mine = begin < region.address + region.size and region.address < end
        elif mine and name == "AnonHugePages":
            found += int(rest.split()[0]) << 10
    return found


def refuse(_address, _size, advice):
    """Do as a host that knows no large pages."""
    assert advice == ram.MADV_HUGEPAGE
    return -1


@pytest.fixture
def machine():
    with Machine(memory=4 << 20, high_memory=16 << 20) as made:
        yield made


def test_the_first_store_to_high_memory_has_the_host_provide_a_large_page(machine):
    low, high = machine.ram.regions
    if not OFFER.exists() or "[never]" in OFFER.read_text():
        pytest.skip("this host has no large pages")
    machine.ram.write(0, b"1")
    machine.ram.write(HIGH_MEMORY + 3 * LARGE, b"1", Account.DEVICE)
    if not large_bytes(high):
        pytest.skip("this host has no large page left")
    assert large_bytes(high) == LARGE
    assert not large_bytes(low) or "[always]" in OFFER.read_text()


def test_a_snapshot_of_memory_in_large_pages_has_what_was_stored_and_no_more(machine):
    high = machine.ram.regions[1]
    places = [HIGH_MEMORY + offset for offset in (0, 5000, 3 * LARGE - 2, 16 * 1024 * 1024 - 4)]
    for number, place in enumerate(places):
        machine.ram.write(place, bytes([number + 1] * 4), Account.DEVICE)
    kept = machine.snapshot()
    assert high.backing is not None
    assert high.backing.stored == 5 * 4096, "no page of zeros, although the host has provided them"
    for place in places:
        machine.ram.write(place, b"\xff" * 4, Account.DEVICE)
    machine.ram.write(HIGH_MEMORY + LARGE, b"more", Account.DEVICE)
    machine.restore(kept)
    assert [machine.ram.read(place, 4, Account.DEVICE) for place in places] == [bytes([n + 1] * 4) for n in range(4)]
    assert machine.ram.read(HIGH_MEMORY + LARGE, 4, Account.DEVICE) == bytes(4)


def test_a_host_without_large_pages_has_memory_all_the_same(monkeypatch):
    libc = ram._libc

    class Host:
        mmap, munmap = libc.mmap, libc.munmap

        madvise = staticmethod(refuse)

    monkeypatch.setattr(ram, "_libc", Host)
    region = ram.Region("high", HIGH_MEMORY, LARGE)
    region.prefer_large_pages()
    region.view[:4] = b"data"
    assert bytes(region.view[:5]) == b"data\0"
    region.close()
