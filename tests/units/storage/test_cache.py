"""The block cache and its changed blocks alone: kept and evicted blocks, waits, and reserves."""

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.errors import GivenUp
from callgate.kernel.storage.cache import SPARE_LEAST
from callgate.kernel.storage.changed_blocks import ChangedBlocks
from callgate.kernel.storage.read_ahead import read_ahead
from plain_cache import DISK, OTHER, CacheRig
from plain_guest import drive, refusal


def test_a_block_that_was_read_is_found_again_in_the_same_frame() -> None:
    rig = CacheRig()
    frames = rig.span([5, 6])
    again = rig.cache.lock(DISK, [6, 5])
    assert (again.frames, again.missing, again.to_read) == ([*frames][::-1], [], [])
    assert (rig.state.hits, rig.state.misses) == (2, 2)
    assert rig.cache.lock(OTHER, [5]).to_read == [5]  # another disk's block


def test_the_least_recently_used_block_that_is_not_held_is_evicted() -> None:
    rig = CacheRig(blocks=4)
    rig.span([1, 2, 3, 4])
    held = rig.cache.lock(DISK, [1])
    rig.cache.unlock(rig.cache.lock(DISK, [2]).keys)  # used just now
    rig.span([5])
    assert rig.numbers == [1, 2, 4, 5]
    rig.span([6])
    assert rig.numbers == [1, 2, 5, 6]
    assert (rig.state.evictions, rig.cache.frame(held.keys[0])) == (2, held.frames[0])


def test_idle_file_data_are_released_before_a_request_for_a_block_is_refused() -> None:
    rig = CacheRig(blocks=2)
    rig.span([1, 2])
    held = rig.cache.lock(DISK, [1, 2])
    rig.idle_data = [lambda: rig.cache.unlock(held.keys[1:])]
    assert rig.cache.lock(DISK, [3]).to_read == [3]
    assert rig.numbers == [1, 3]
    with refusal(ErrorCode.NO_MEMORY):
        rig.cache.lock(DISK, [4])


def test_a_lock_that_is_refused_locks_nothing_and_leaves_no_block_waiting_for_the_disk() -> None:
    rig = CacheRig(blocks=3)
    rig.span([1])
    with refusal(ErrorCode.NO_MEMORY):
        rig.cache.lock(DISK, [1, 2, 3, 4])
    assert (rig.state.locked, rig.numbers, rig.high.available) == (0, [1], 2)


def test_a_block_is_not_evicted_while_the_disk_may_still_write_into_it() -> None:
    rig = CacheRig(blocks=1)
    locked = rig.cache.lock(DISK, [1])
    drive(rig.cache.read(DISK, locked.to_read))
    rig.cache.unlock(locked.keys)
    with refusal(ErrorCode.NO_MEMORY):
        rig.cache.lock(DISK, [2])
    rig.end()
    assert rig.cache.lock(DISK, [2]).frames == locked.frames


def test_a_disk_of_which_no_block_is_cached_is_not_remembered() -> None:
    """Files of holes alone have none; a disk that is plugged again has another key each time."""
    rig = CacheRig()
    changes = rig.state.blocks.changes
    assert rig.cache.lock(OTHER, []).keys == []
    assert (rig.state.blocks.places, rig.state.blocks.changes) == ({}, changes)
    rig.span([1])
    rig.cache.evict((DISK, 1))
    assert rig.state.blocks.places == {}


def test_a_thread_is_woken_once_when_the_last_of_its_blocks_has_arrived() -> None:
    rig = CacheRig()
    locked = rig.cache.lock(DISK, [1, 9, 9])
    rig.cache.notify(locked.missing, 0x210)
    drive(rig.cache.read(DISK, locked.to_read))
    assert [run.keys for run in rig.runs] == [[(DISK, 1)], [(DISK, 9)]]
    rig.cache.ended(rig.runs.pop(), DiskStatus.DONE)
    assert rig.woken == []
    rig.end()
    assert (rig.woken, rig.state.notices) == ([0x210], {})


def test_blocks_that_join_a_waiting_request_arrive_or_fail_with_it() -> None:
    for status in (DiskStatus.DONE, DiskStatus.FAILED):
        rig = CacheRig()
        rig.busy = True
        first = rig.cache.lock(DISK, [1, 9])
        drive(rig.cache.read(DISK, first.to_read))
        second = rig.cache.lock(DISK, [3, 10])
        rig.cache.notify(second.missing, 0x210)
        drive(rig.cache.read(DISK, [10, 3]))
        assert [run.keys for run in rig.runs] == [[(DISK, 1)], [(DISK, 9), (DISK, 10)], [(DISK, 3)]]
        rig.cache.ended(rig.runs.pop(1), status)
        assert [rig.cache.pending(key) for key in (*first.keys, *second.keys)] == [True, False, True, False]
        assert rig.woken == []
        rig.end()
        assert rig.woken == [0x210]
        assert list(rig.state.alone) == ([] if status is DiskStatus.DONE else [(DISK, 9), (DISK, 10)])


def test_a_block_that_is_to_be_read_alone_joins_no_request_and_none_joins_its_own() -> None:
    rig = CacheRig()
    rig.span([2, 3], status=DiskStatus.FAILED)
    rig.busy = True
    for number in (1, 2, 3, 4, 5):
        drive(rig.cache.read(DISK, rig.cache.lock(DISK, [number]).to_read))
    assert [[number for _, number in run.keys] for run in rig.runs] == [[1], [2], [3], [4, 5]]


def test_blocks_that_failed_together_are_read_again_each_by_itself() -> None:
    rig = CacheRig()
    rig.span([1, 2, 3], status=DiskStatus.FAILED)
    locked = rig.cache.lock(DISK, [1, 2, 3])
    assert locked.to_read == [1, 2, 3]
    drive(rig.cache.read(DISK, locked.to_read))
    assert [run.keys for run in rig.runs] == [[(DISK, number)] for number in (1, 2, 3)]
    rig.cache.ended(rig.runs.pop(1), DiskStatus.FAILED)
    rig.end()
    assert rig.cache.failures(locked.keys) == [(DISK, 2)]
    with refusal(ErrorCode.IO_ERROR):
        rig.cache.check(locked)


def test_many_blocks_that_failed_together_are_read_again_64_at_a_time_and_then_each_that_failed_by_itself() -> None:
    rig = CacheRig(blocks=200)
    numbers = list(range(130))
    rig.span(numbers, status=DiskStatus.FAILED)
    locked = rig.cache.lock(DISK, numbers)
    drive(rig.cache.read(DISK, locked.to_read))
    assert [(run.first, run.count) for run in rig.runs] == [(0, 64), (64, 64), (128, 2)]
    rig.cache.ended(rig.runs.pop(1), DiskStatus.FAILED)
    rig.cache.ended(rig.runs.pop(1), DiskStatus.FAILED)
    rig.end()
    assert rig.cache.failures(locked.keys) == locked.keys[64:]
    rig.cache.unlock(locked.keys)
    again = rig.cache.lock(DISK, numbers)
    assert again.there == numbers[:64]
    drive(rig.cache.read(DISK, again.to_read))
    assert [(run.first, run.count) for run in rig.runs] == [(number, 1) for number in range(64, 130)]
    rig.cache.ended(rig.runs.pop(9), DiskStatus.FAILED)
    rig.end()
    assert (rig.cache.failures(again.keys), rig.state.alone) == ([(DISK, 73)], {})


def test_new_blocks_are_put_into_frames_in_the_order_of_memory_and_evict_no_more_than_they_need() -> None:
    rig = CacheRig(blocks=6)
    first = rig.span([1, 2, 3, 4])
    frames = rig.cache.lock(DISK, [7, 8, 9, 10]).frames
    assert frames == sorted(frames)
    assert (set(frames) - set(first), rig.state.evictions) == (
        {rig.high.start + 4 * 4096, rig.high.start + 5 * 4096},
        2,
    )
    assert rig.numbers == [3, 4, 7, 8, 9, 10]


def test_a_block_that_failed_by_itself_fails_for_all_its_holders_and_is_read_anew_afterwards() -> None:
    rig = CacheRig()
    locked = rig.cache.lock(DISK, [2])
    drive(rig.cache.read(DISK, [2]))
    rig.end(DiskStatus.FAILED)
    assert rig.cache.lock(DISK, [2]).missing == []  # no thread is to wait for it
    rig.cache.unlock(locked.keys * 2)
    assert rig.cache.lock(DISK, [2]).to_read == [2]


def test_blocks_of_a_removed_disk_are_freed_at_once_or_when_their_last_holder_releases_them() -> None:
    rig = CacheRig()
    rig.span([1, 2])
    rig.span([1], OTHER)
    held = rig.cache.lock(DISK, [2])
    rig.cache.drop_disk(DISK)
    assert sorted(rig.state.blocks) == [(DISK, 2), (OTHER, 1)]
    rig.cache.unlock(held.keys)
    assert list(rig.state.blocks) == [(OTHER, 1)]
    locked = rig.cache.lock(OTHER, [7])
    drive(rig.cache.read(OTHER, [7]))
    rig.end(DiskStatus.REMOVED)
    with refusal(ErrorCode.UNPLUGGED):
        rig.cache.check(locked)


def test_file_data_leaves_a_quarter_of_the_cache_to_file_systems() -> None:
    rig = CacheRig(blocks=64)
    numbers = list(range(100))
    assert rig.cache.fitting(DISK, numbers) == 48
    held = rig.cache.lock(DISK, numbers[:40])
    assert rig.cache.fitting(DISK, numbers[:48]) == 48  # the locked ones are in memory already
    assert rig.cache.fitting(DISK, list(range(50, 100))) == 8
    rig.idle_data = [lambda: rig.cache.unlock(held.keys)]
    assert rig.cache.fitting(DISK, list(range(50, 100))) == 48


def test_file_data_are_not_read_where_two_requests_would_not_find_room() -> None:
    rig = CacheRig(blocks=SPARE_LEAST)  # a quarter less is not enough
    assert rig.cache.fitting(DISK, [1]) == 0
    assert rig.cache.most == SPARE_LEAST // 3


def test_a_read_waits_until_all_its_blocks_are_in_memory_and_notifies_once() -> None:
    rig = CacheRig()
    waits = []

    def block(call: RoutineCall) -> None:
        waits.append(call.eax)
        rig.end()

    locked, _ = drive(rig.cache.read_locked(DISK, [1, 2, 5]), block=block)
    assert (locked.keys, waits) == ([(DISK, 1), (DISK, 2), (DISK, 5)], [WaitReason.DISK])
    assert rig.woken == [0x208]
    _, calls = drive(rig.cache.read_locked(DISK, [1, 2, 5]))
    assert calls == []


def test_a_thread_that_wants_a_block_on_its_way_to_another_one_is_woken_too() -> None:
    rig = CacheRig()
    first = rig.cache.lock(DISK, [1])
    drive(rig.cache.read(DISK, first.to_read))  # for file data, whose arrival machine code counts
    second = rig.cache.lock(DISK, [1])
    rig.cache.notify(second.missing, 0x210)
    rig.end()
    assert rig.woken == [0x210]


def test_a_killed_reader_gives_up_and_leaves_its_block_until_the_disk_has_written_it() -> None:
    rig = CacheRig(blocks=1)

    def block(_call: RoutineCall) -> None:
        rig.thread.killed = True

    with refusal(ErrorCode.KILLED):
        drive(rig.cache.read_locked(DISK, [1]), block=block)
    assert (rig.state.locked, rig.numbers) == (0, [1])
    rig.end()
    assert list(rig.state.blocks.idle()) == [(DISK, 1)]


def test_blocks_that_a_dying_thread_was_to_read_fail_and_threads_that_wait_for_them_are_told() -> None:
    rig = CacheRig()
    mine = rig.cache.lock(DISK, [1, 2])
    rig.cache.notify(mine.missing, 0x210)
    rig.refused = GivenUp(ErrorCode.KILLED)
    with refusal(ErrorCode.KILLED):
        drive(rig.cache.read(DISK, mine.to_read))
    assert (rig.unread, rig.woken) == ([{(DISK, 1), (DISK, 2)}], [0x210])
    assert list(rig.state.alone) == mine.keys  # reading each again is worthwhile


# Changed blocks.

A, B, C = 7, 8, 9  # families


@pytest.fixture
def changed() -> tuple[CacheRig, ChangedBlocks]:
    rig = CacheRig(blocks=64)
    rig.span(list(range(40)))
    rig.cache.lock(DISK, list(range(40)))
    return rig, ChangedBlocks(rig.cache)


def test_claims_for_changed_blocks_are_granted_while_there_is_room_and_can_be_returned(
    changed: tuple[CacheRig, ChangedBlocks],
) -> None:
    _, blocks = changed
    assert blocks.share == 64 - 64 // 4 - SPARE_LEAST  # less than half of this small cache
    room = blocks.room(A)
    assert room == blocks.share // 2
    keys = [(DISK, number) for number in range(room + 3)]
    assert list(blocks.claim(keys, A)) == [True] * room
    assert (blocks.room(A), list(blocks.claim(keys[-1:], A))) == (0, [])
    blocks.disclaim(keys[:2], A)
    assert blocks.room(A) == 2


def test_a_family_has_half_of_what_the_others_have_left_also_if_they_are_gone(
    changed: tuple[CacheRig, ChangedBlocks],
) -> None:
    rig, blocks = changed
    keys, got = [(DISK, number) for number in range(40)], []
    for family in (A, B, C):
        mine = [key for key, _ in zip(keys, blocks.claim(keys, family), strict=False)]
        blocks.keep(mine, family)
        blocks.disclaim(mine, family)
        assert blocks.room(family) == 0
        got.append(len(mine))
        keys = keys[len(mine) :]
    total = blocks.share
    assert got == [total // 2, (total - got[0]) // 2, (total - got[0] - got[1]) // 2]
    assert min(got) > 0
    assert rig.state.held == dict(zip((A, B, C), got, strict=True))
    rig.cache.drop_disk(DISK)
    blocks.lose(DISK)
    assert rig.state.held == {}


def test_a_changed_block_needs_no_claim_and_is_not_evicted(changed: tuple[CacheRig, ChangedBlocks]) -> None:
    rig, blocks = changed
    key = (DISK, 3)
    assert list(blocks.claim([key], A)) == [True]
    blocks.keep([key, key], A)
    blocks.disclaim([key], A)
    assert (list(blocks.claim([key], A)), rig.state.changed, rig.state.claimed) == ([False], 1, 0)
    rig.cache.unlock([(DISK, number) for number in range(40)])
    assert key not in rig.state.blocks.idle()
    assert len(rig.state.blocks.idle()) == 39


def test_changes_of_a_removed_disk_are_lost_and_counted(changed: tuple[CacheRig, ChangedBlocks]) -> None:
    rig, blocks = changed
    room = blocks.room(A)
    for key in ((DISK, 1), (DISK, 2)):
        assert list(blocks.claim([key], A)) == [True]
        blocks.keep([key], A)
        blocks.disclaim([key], A)
    rig.cache.drop_disk(DISK)
    assert (blocks.lose(OTHER), blocks.lose(DISK), blocks.lose(DISK)) == (0, 2, 0)
    assert (rig.state.lost, blocks.room(A)) == (2, room)
    blocks.keep([(DISK, 5)], A)  # written after the disk was removed
    assert (rig.state.lost, rig.state.changed) == (3, 0)
    rig.cache.unlock([(DISK, number) for number in range(40)])
    assert len(rig.state.blocks) == 0


# Reading ahead for files that lie one after the other.


def read_beginning(rig: CacheRig, numbers: list[int], end: int = 100) -> list[int]:
    """Read blocks as those of a file's beginning; return what is read ahead with them."""
    locked = rig.cache.lock(DISK, numbers)
    ahead = read_ahead(rig.cache, DISK, locked.to_read, end) if locked.to_read else []
    drive(rig.cache.read(DISK, locked.to_read + ahead))
    assert all(run.watched for run in rig.runs if ahead), "blocks without locks are let go of when it ends"
    rig.end()
    rig.cache.unlock(locked.keys)
    return ahead


def test_blocks_are_read_ahead_twice_as_many_each_time_while_each_file_lies_after_the_one_before() -> None:
    rig = CacheRig(200)
    assert read_beginning(rig, [10]) == []
    assert read_beginning(rig, [11]) == [12, 13]
    assert read_beginning(rig, [12]) == []
    assert read_beginning(rig, [13]) == []
    assert read_beginning(rig, [14, 15]) == [16, 17, 18, 19]
    assert read_beginning(rig, [20]) == list(range(21, 29))
    assert read_beginning(rig, [29]) == list(range(30, 46))
    assert read_beginning(rig, [46]) == list(range(47, 63)), "no more than that"
    assert set(rig.state.blocks.idle()) == set(rig.state.blocks)
    assert rig.state.misses == 7
    assert read_beginning(rig, [70]) == []
    assert read_beginning(rig, [71]) == [72, 73]


def test_nothing_is_read_ahead_after_the_end_nor_over_what_is_there_nor_from_another_disk() -> None:
    rig = CacheRig(200)
    read_beginning(rig, [10])
    assert read_beginning(rig, [11], end=12) == []
    assert read_beginning(rig, [12], end=14) == [13]
    rig.span([16])
    assert read_beginning(rig, [14]) == [15]
    rig.cache.drop_disk(DISK)
    assert rig.state.ahead == {}


def test_nothing_is_read_ahead_out_of_the_last_quarter_of_the_cache() -> None:
    rig = CacheRig(16)
    rig.cache.lock(DISK, list(range(50, 61)))
    read_beginning(rig, [10])
    assert read_beginning(rig, [11]) == [], "of what is left, four blocks and more are kept"
