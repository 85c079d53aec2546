"""Sorting and searching sector lists in machine code, against Python's own sort."""

import random
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.disks.sectors import (
    SECTOR_ARRIVED_BIT,
    SECTOR_COUNT_SHIFT,
    SECTOR_LINK_MASK,
    SECTOR_LINK_SHIFT,
    SECTOR_PART_SHIFT,
    SectorList,
)
from callgate.kernel.abi.file import SpanRecord
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.abi.thread import ThreadControlBlock, ThreadFlags

LIST = 0x20000
BLOCK = 0x22000  # the control block of the thread
RECORD = 0x23000  # the SpanRecord of the list
ARRIVED = 1 << SECTOR_LINK_SHIFT + SECTOR_ARRIVED_BIT
FULL = MESSAGE_ADDRESSES
PART = 1 << 32


def entry(sector: int, index: int, sectors: int = 8) -> int:
    """Return an entry as policy makes it."""
    low, part = sector & 0xFFFF_FFFF, sector >> 32
    return low | index << SECTOR_LINK_SHIFT | (sectors - 1) << SECTOR_COUNT_SHIFT | part << SECTOR_PART_SHIFT


def sector_of(value: int) -> int:
    return value & 0xFFFF_FFFF | value >> SECTOR_PART_SHIFT << 32


class Lists:
    """A list in a bare CPU's memory."""

    def __init__(self, cpu: Any) -> None:
        self.cpu = cpu
        cpu.load('        .include "sectors.asm"\n')
        cpu.segment("fs", BLOCK)
        cpu.place(ThreadControlBlock, BLOCK, flags=0)

    def put(self, sectors: list[int], remaining: int | None = None) -> list[int]:
        entries = [entry(sector, index) for index, sector in enumerate(sectors)]
        spans = len({sector >> 32 for sector in sectors}) > 1
        page = SectorList(count=len(sectors), spans=spans, record=RECORD)
        self.cpu.place(SpanRecord, RECORD, remaining=len(sectors) if remaining is None else remaining)
        page.entries[: len(entries)] = entries
        self.cpu.write(LIST, bytes(page))
        return entries

    def get(self) -> Any:
        return SectorList.from_buffer_copy(self.cpu.read(LIST, 4096))

    def remaining(self) -> int:
        """Return what is left to arrive, by the span's record."""
        return int(self.cpu.field(SpanRecord, RECORD, "remaining"))

    def sort(self, sectors: list[int]) -> Any:
        """Sort, check against Python, return the call's result."""
        entries = self.put(sectors)
        result = self.cpu.call("sort_sectors", ebx=LIST)
        page = self.get()
        got = list(page.entries)
        assert [sector_of(value) for value in got[: len(sectors)]] == sorted(sectors)
        assert sorted(got[: len(sectors)]) == sorted(entries), "an entry was lost, doubled or changed"
        assert not any(got[len(sectors) :]), "data were written after the entries"
        assert all(
            sectors[value >> SECTOR_LINK_SHIFT & SECTOR_LINK_MASK] == sector_of(value) for value in got[: len(sectors)]
        )
        return result


@pytest.fixture
def lists(bare_cpu: Any) -> Lists:
    return Lists(bare_cpu)


def shapes() -> dict[str, list[int]]:
    source = random.Random(506)
    ramp = list(range(0, 8 * FULL, 8))
    return {
        "none": [],
        "one": [77],
        "two in order": [1, 2],
        "two reversed": [2, 1],
        "sorted": ramp,
        "reversed": ramp[::-1],
        "all equal": [8000] * FULL,
        "sawtooth": [8 * (index % 23) + index // 23 for index in range(FULL)],
        "organ pipe": ramp[:FULL:2] + ramp[1::2][::-1],
        "last one first": [*ramp[1:], 0],
        "first one last": [ramp[-1], *ramp[:-1]],
        "top of a part": [PART - 8 * (index * 37 % FULL + 1) for index in range(FULL)],
        "upper half of the range": [0x8000_0000 + source.randrange(1 << 31) for _ in range(FULL)],
        "across two parts": [PART - 2000 + 8 * (index * 211 % FULL) for index in range(FULL)],
        "across parts in order": [PART - 2000 + 8 * index for index in range(FULL)],
        "many parts": [source.randrange(1 << 48) for _ in range(FULL)],
        "parts reversed": [PART * (FULL - index) + index for index in range(FULL)],
    }


@pytest.mark.parametrize("shape", shapes())
def test_a_list_is_sorted_as_python_sorts_it(lists: Lists, shape: str) -> None:
    lists.sort(shapes()[shape])


def test_random_lists_of_all_lengths_are_sorted(lists: Lists, some_of: Callable[[range, int], list[int]]) -> None:
    source = random.Random(1)
    for _ in some_of(range(150), 3):
        length = source.randrange(FULL + 1)
        top = source.choice([2, 40, 1 << 20, 1 << 32, 1 << 34, 1 << 51])
        lists.sort([source.randrange(top) for _ in range(length)])


@pytest.mark.parametrize("length", [2, 10, 100, 250, 506])
def test_a_sorted_list_costs_a_fixed_number_of_instructions_an_entry(lists: Lists, length: int) -> None:
    fixed = lists.sort([8, 16]).instructions - 7
    assert lists.sort([8 * index for index in range(length)]).instructions == 7 * (length - 1) + fixed
    assert 7 * length + fixed <= 8 * length + 20


def test_the_worst_lists_are_sorted_within_a_budget(lists: Lists) -> None:
    costs = {name: lists.sort(sectors).instructions for name, sectors in shapes().items() if len(sectors) == FULL}
    assert max(costs.values()) < 120_000, costs
    assert costs["sorted"] < 4000


@pytest.mark.parametrize("shape", ["sorted", "across parts in order"])
def test_a_list_in_order_is_not_read_beyond_its_last_entry(lists: Lists, shape: str) -> None:
    """506 entries end with their page; the one after it is another list's, or anything."""
    lists.cpu.protect(LIST + 4096, 4096, "none")
    lists.sort(shapes()[shape])


@pytest.mark.parametrize("shape", ["reversed", "many parts"])
def test_a_killed_thread_stops_sorting_and_loses_no_entry(lists: Lists, shape: str) -> None:
    entries = lists.put(shapes()[shape])
    lists.cpu.write(BLOCK + ThreadControlBlock.flags.offset, bytes([ThreadFlags.KILLED]))
    assert lists.cpu.call("sort_sectors", ebx=LIST).instructions < 5_000
    assert sorted(lists.get().entries) == sorted(entries)


def test_a_search_finds_what_bisect_finds(lists: Lists) -> None:
    source = random.Random(2)
    for name, sectors in shapes().items():
        lists.sort(sectors)
        ordered = sorted(sectors)
        wanted = [0, (1 << 51) - 1, *(source.choice(ordered or [0]) + source.choice([-1, 0, 1]) for _ in range(12))]
        for sector in map(abs, wanted):
            result = lists.cpu.call("find_sector", ebx=LIST, eax=sector & 0xFFFF_FFFF, edx=sector >> 32)
            assert result.ecx == bisect_left(ordered, sector), (name, sector)
            assert (result.eax, result.edx, result.ebx) == (sector & 0xFFFF_FFFF, sector >> 32, LIST)


def test_a_search_takes_few_instructions(lists: Lists) -> None:
    lists.sort([8 * index for index in range(FULL)])
    costs = [lists.cpu.call("find_sector", ebx=LIST, eax=sector).instructions for sector in range(0, 8 * FULL, 97)]
    assert max(costs) <= 140


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("name", ["sorted", "across two parts", "all equal", "many parts"])
@pytest.mark.parametrize("seed", range(4))
def test_completions_in_any_order_report_the_last_one_once(lists: Lists, name: str, seed: int) -> None:
    source = random.Random(seed)
    sectors = [sector // 8 * 8 for sector in shapes()[name]]
    lists.sort(sectors)
    # The disk brings whole blocks, in runs of any length, some of them twice.
    blocks = sorted(set(sectors))
    runs = []
    while blocks:
        length = 1
        while length < len(blocks) and blocks[length] == blocks[length - 1] + 8 and source.random() < 0.8:
            length += 1
        runs.append((blocks[0], 8 * length))
        del blocks[:length]
    runs += source.sample(runs, len(runs) // 3)
    source.shuffle(runs)
    missing, last = set(sectors), 0
    for first, count in runs:
        had = bool(missing)
        missing -= set(range(first, first + count, 8))
        result = lists.cpu.call("sectors_arrived", ebx=LIST, eax=first & 0xFFFF_FFFF, edx=first >> 32, ecx=count)
        assert result.eax == sum(sector in missing for sector in sectors)
        assert (had and not missing) == result.ZF
        last += result.ZF
    assert last == 1
    assert all(value & ARRIVED for value in lists.get().entries[: len(sectors)])


def test_an_entry_that_was_already_complete_is_not_counted_again(lists: Lists) -> None:
    lists.put([8, 16, 24], remaining=1)
    page = lists.get()
    for index in (0, 2):
        page.entries[index] |= ARRIVED
    lists.cpu.write(LIST, bytes(page))
    assert lists.cpu.call("sectors_arrived", ebx=LIST, eax=8, ecx=8).ZF == 0
    assert lists.remaining() == 1
    assert lists.cpu.call("sectors_arrived", ebx=LIST, eax=0, ecx=1000).ZF == 1
    assert lists.remaining() == 0


def test_sectors_of_another_part_with_the_same_lower_half_have_not_arrived(lists: Lists) -> None:
    lists.put([4, PART + 4, 2 * PART + 4])
    assert lists.cpu.call("sectors_arrived", ebx=LIST, eax=0, ecx=8).eax == 2
    assert lists.cpu.call("sectors_arrived", ebx=LIST, eax=0, edx=1, ecx=8).eax == 1
    assert [bool(value & ARRIVED) for value in lists.get().entries[:3]] == [True, True, False]
