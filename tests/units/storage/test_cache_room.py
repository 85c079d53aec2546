"""The block cache with hardly any room, and with blocks that could not be read."""

import pytest
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import GivenUp
from callgate.kernel.storage import cache_records
from callgate.kernel.storage.cache import SPARE_LEAST
from plain_cache import DISK, CacheRig
from plain_guest import drive, refusal

BLOCKS = 64
SHARE = BLOCKS // 4  # for the structures of file systems


def test_unlocked_blocks_that_are_asked_for_take_room_like_new_ones() -> None:
    """To lock them takes them out of what can be evicted."""
    rig = CacheRig(BLOCKS)
    rig.span(list(range(20)))
    rig.cache.lock(DISK, list(range(100, 100 + BLOCKS - 20 - SHARE)))
    assert rig.cache.fitting(DISK, [*range(20), *range(200, 205)]) == 20


def test_nothing_is_released_for_blocks_that_fit() -> None:
    """More numbers than there is room for, but each only once new: the others are locked already."""
    rig = CacheRig(BLOCKS)
    rig.cache.lock(DISK, list(range(BLOCKS - SHARE - 2)))
    rig.idle_data = [lambda: pytest.fail("released without need")]
    assert rig.cache.fitting(DISK, [*range(10), 100, 101]) == 12


def test_nothing_is_released_when_changed_blocks_leave_too_few_for_file_data() -> None:
    rig = CacheRig(BLOCKS)
    rig.state.changed = BLOCKS - SHARE - SPARE_LEAST + 1
    rig.idle_data = [lambda: pytest.fail("released in vain")]
    assert rig.cache.fitting(DISK, [1, 2]) == 0


def test_blocks_that_were_read_together_well_are_not_read_one_by_one_afterwards() -> None:
    rig = CacheRig()
    rig.span([1, 2])
    assert rig.state.alone == {}
    rig.span([3, 4], status=DiskStatus.FAILED)
    assert list(rig.state.alone) == [(DISK, 3), (DISK, 4)]


@pytest.mark.parametrize("status", [DiskStatus.REMOVED, DiskStatus.FAILED])
def test_a_block_that_no_thread_watches_and_that_was_not_read_is_not_kept_as_one_that_was(status: DiskStatus) -> None:
    rig = CacheRig()
    held = rig.cache.lock(DISK, [1])
    drive(rig.cache.read(DISK, held.to_read))
    rig.end(status)
    rig.cache.unlock(held.keys)
    assert (rig.numbers == []) == (status is DiskStatus.REMOVED), "that of a removed disk is of no use"


def test_a_failed_block_that_another_holds_is_an_error_and_is_not_asked_for_without_end() -> None:
    """It failed with others, so reading it again would be worthwhile; but it stays as it is while it is locked."""
    rig = CacheRig()
    held = rig.cache.lock(DISK, [1, 2])
    drive(rig.cache.read(DISK, held.to_read))
    rig.end(DiskStatus.FAILED)
    with refusal(ErrorCode.IO_ERROR):
        drive(rig.cache.read_locked(DISK, [1]))
    assert list(rig.state.alone) == held.keys


def test_a_thread_that_has_been_killed_does_not_ask_again_for_blocks_that_failed_together() -> None:
    rig = CacheRig()
    rig.refused = GivenUp(ErrorCode.KILLED)
    with refusal(ErrorCode.KILLED):
        drive(rig.cache.read_locked(DISK, [1, 2]))
    assert len(rig.unread) == 1


def test_the_blocks_that_are_to_be_read_alone_are_bounded_whether_a_disk_or_a_reader_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_records, "BLOCKS_ALONE", 4)
    failed, killed = CacheRig(), CacheRig()
    failed.span([1, 2, 3, 4, 5, 6], status=DiskStatus.FAILED)
    killed.refused = GivenUp(ErrorCode.KILLED)
    with refusal(ErrorCode.KILLED):
        drive(killed.cache.read(DISK, killed.cache.lock(DISK, [1, 3, 5, 7, 9, 11]).to_read))
    assert [list(rig.state.alone) for rig in (failed, killed)] == [
        [(DISK, number) for number in numbers] for numbers in ((3, 4, 5, 6), (5, 7, 9, 11))
    ]
