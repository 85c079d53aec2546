"""Sector lists alone: entries for each block, counted down as they arrive, in a chain, booked to a family."""

import pytest
from callgate.kernel.abi.disks.sectors import SectorList
from callgate.kernel.abi.file import SpanRecord
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.records import SectorPiece
from callgate.kernel.storage.sector_lists import SectorLists, SectorListsState
from plain_guest import Tasks

PAGE = 4096


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
def lists(tasks: Tasks) -> SectorLists:
    return SectorLists(SectorListsState(), tasks.guest, tasks.records, tasks.shares)


RECORD = KERNEL_BASE + 0x3000  # linear address of a SpanRecord: memory that nothing else here uses


def remaining(tasks: Tasks) -> int:
    """Return the number of entries that have not arrived, as the record has it."""
    return SpanRecord.from_buffer(tasks.guest.ram.view(RECORD - KERNEL_BASE, 32)).remaining


def page(tasks: Tasks, frame: int) -> SectorList:
    return SectorList.from_buffer(tasks.guest.ram.view(frame, PAGE))


FAR = 5 << 32 | 16
HOLE = SectorPiece(None, 0, 8)
PIECES = [SectorPiece(FAR, 0, 8), HOLE, SectorPiece(24, 0, 1), HOLE, SectorPiece(7, 7, 1)]


def test_a_sector_list_holds_the_number_of_each_block_in_the_reply_also_beyond_2_tib(
    tasks: Tasks, lists: SectorLists
) -> None:
    frame, count = lists.write(3, RECORD, PIECES)
    written = page(tasks, frame)
    assert (written.disk, written.spans, written.count, written.record) == (3, 1, 3, RECORD)
    assert (remaining(tasks), count) == (3, 3)
    assert lists.read(frame, 3) == ([FAR // 8, 3, 0], [0, 1, 2])
    assert written.entries[0] == 16 | 0 << 32 | 7 << 41 | 5 << 45  # the layout of abi/sectors.py
    assert page(tasks, lists.write(3, RECORD, PIECES[1:])[0]).spans == 0


@pytest.mark.parametrize("first", [8, 5 << 32 | 16, (1 << 32) - 16, (1 << 32) - 24, (7 << 32) - 8])
def test_blocks_that_follow_each_other_have_an_entry_each_also_across_a_multiple_of_2_tib(
    tasks: Tasks, lists: SectorLists, first: int
) -> None:
    frame, count = lists.write(3, RECORD, [SectorPiece(48, 0, 8), HOLE, SectorPiece(first, 0, 3 * 8)])
    written = page(tasks, frame)
    sectors = [48, first, first + 8, first + 16]
    expected = [at & 0xFFFF_FFFF | index << 32 | 7 << 41 | at >> 32 << 45 for index, at in enumerate(sectors)]
    assert (count, list(written.entries[:5])) == (4, [*expected, 0])
    assert written.spans == int(len({at >> 32 for at in sectors}) > 1)
    assert lists.read(frame, 4) == ([at // 8 for at in sectors], [0, 1, 2, 3])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1), (1, 2, 3, 0)])
def test_the_place_of_each_entry_of_a_sorted_list_is_found(
    tasks: Tasks, lists: SectorLists, order: tuple[int, ...]
) -> None:
    frame, _ = lists.write(3, RECORD, [SectorPiece(8 * at, 0, 8) for at in order])
    written = page(tasks, frame)
    written.entries[:4] = sorted(written.entries[:4], key=lambda entry: entry & 0xFFFF_FFFF)
    blocks, places = lists.read(frame, 4)
    assert (blocks, [blocks[place] for place in places]) == ([0, 1, 2, 3], list(order))


def test_arrived_sector_entries_are_counted_down_to_zero_in_the_record(tasks: Tasks, lists: SectorLists) -> None:
    frame, _ = lists.write(3, RECORD, PIECES)
    assert not lists.mark_arrived(frame, [0, 2])
    assert remaining(tasks) == 1
    assert lists.mark_arrived(frame, [1])
    assert remaining(tasks) == 0


def test_abandoned_blocks_are_counted_once_and_only_on_their_disk(lists: SectorLists) -> None:
    frame, _ = lists.write(3, RECORD, PIECES[1:])  # blocks 3 and 0
    assert not lists.mark_unread(frame, {(0x104, 3), (0x104, 0)})
    assert not lists.mark_unread(frame, {(0x103, 3)})
    assert not lists.mark_unread(frame, {(0x103, 3)})
    assert lists.mark_unread(frame, {(0x103, 0)})


def test_sector_lists_that_wait_for_the_disk_are_chained_and_unchained_when_released(
    tasks: Tasks, lists: SectorLists
) -> None:
    frames = [lists.write(3, RECORD, PIECES)[0] for _ in range(3)]
    used = tasks.low.used

    def chain() -> list[int]:
        found, at = [], tasks.guest.kernel_words["sector_lists"]
        while at:
            found.append(at - KERNEL_BASE)
            at = page(tasks, at - KERNEL_BASE).next
        return found

    for frame in frames:
        lists.link(frame)
    assert chain() == frames
    lists.release(frames[1])
    assert (chain(), lists.linked(frames[1]), tasks.low.used) == ([frames[0], frames[2]], False, used - 1)
    lists.release(frames[0])
    lists.release(frames[2])
    assert chain() == []


def test_a_sector_list_is_booked_to_the_family_that_asks(tasks: Tasks, lists: SectorLists) -> None:
    process = tasks.new_process()
    child = tasks.new_process("child", process.number)
    assert (lists.reserve(process), lists.reserve(child)) == (process.family, process.family)
    assert tasks.records.lists == {process.family: 2}
    lists.unreserve(process.family)
    lists.unreserve(process.family)
    assert tasks.records.lists == {}


# Reading through the cache.
