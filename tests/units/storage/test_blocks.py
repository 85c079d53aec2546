"""The columns in which the cache keeps its blocks: places, the order of eviction, copies for snapshots."""

import random
from collections import OrderedDict
from collections.abc import Callable

import pytest
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.storage.blocks import Blocks, Uses
from callgate.kernel.storage.disk_requests import Run
from callgate.kernel.watching.snapshots.kept_records import RecordKeeper
from callgate.kernel.watching.snapshots.record_forms import FORMS
from plain_cache import DISK, OTHER, CacheRig
from plain_guest import drive

FIELDS = ("frame", "locks", "run", "changed", "family", "writers", "doomed", "waiters", "valid", "failed")


def everything(blocks: Blocks) -> list[object]:
    """Return all that is known of blocks, in order, and in which order they are evicted."""
    known = [(key, *(getattr(block, name) for name in FIELDS)) for key, block in blocks.items()]
    return [known, blocks.idle(), blocks.uses.idle, [*blocks.free]]


def test_the_records_come_back_as_they_were_from_a_snapshot() -> None:
    rig = CacheRig(24)
    rig.span([3, 4, 9])
    rig.span([1], disk=OTHER)
    rig.span([17], status=DiskStatus.FAILED)
    held = rig.cache.lock(DISK, [9, 20])
    drive(rig.cache.read(DISK, held.to_read))
    rig.cache.notify(held.missing, 0x208)
    one = rig.state.blocks[DISK, 4]
    one.changed, one.family, one.writers, one.doomed = True, 5, 2, True
    blocks, uses = rig.state.blocks, rig.state.blocks.uses
    expected = everything(blocks)
    again, uses_again = Blocks(), Uses()
    FORMS[Blocks].fill(again, FORMS[Blocks].content(blocks))
    assert again.uses is uses, "it is a record itself"
    FORMS[Uses].fill(uses_again, FORMS[Uses].content(uses))
    again.uses = uses_again
    assert everything(again) == expected
    assert again.changes == blocks.changes
    assert again[DISK, 3].run is again[DISK, 4].run, "blocks that are read together share what reads them"
    rig.cache.unlock(held.keys[:1])
    rig.cache.evict(held.keys[0])
    assert everything(again) == expected, "no column is shared"
    FORMS[Blocks].fill(again, FORMS[Blocks].content(Blocks()))
    assert len(again) == 0


def test_blocks_are_evicted_in_the_order_of_their_last_use_whatever_was_used_removed_and_made_meanwhile() -> None:
    dice = random.Random(5)
    blocks = Blocks()
    uses, order, frames = blocks.uses, OrderedDict[tuple[int, int], None](), dict[tuple[int, int], int]()
    for step in range(4000):
        key = (DISK, dice.randrange(60))
        if key not in blocks:
            made = [number for number in range(key[1], key[1] + dice.randrange(1, 4)) if (DISK, number) not in frames]
            blocks.add_locked(DISK, made, [4096 * (step + at) for at in range(len(made))])
            frames |= {(DISK, number): 4096 * (step + at) for at, number in enumerate(made)}
        elif dice.random() < 0.3:
            assert blocks.remove(key) == frames.pop(key)
            order.pop(key, None)
        elif dice.random() < 0.5:
            uses.retain(blocks.place(key))
            order.pop(key, None)
        else:
            some = dice.sample(list(frames), min(len(frames), 5))
            uses.release([blocks.place(each) for each in some])
            order |= dict.fromkeys(each for each in some if each not in order)
        assert (blocks.idle(), uses.idle) == ([*order], len(order))
        assert [*blocks] == [*frames]
    assert {key: block.frame for key, block in blocks.items()} == frames
    assert len(blocks.frames) <= 64, "places are used again"
    for key in frames:
        blocks.remove(key)
    assert (len(blocks), blocks.places) == (0, {}), "nothing is left of the disk"


CHANGES: dict[str, Callable[[Blocks], object]] = {
    "add": lambda blocks: blocks.add((DISK, 9), 0x9000),
    "add in a free place": lambda blocks: blocks.add((DISK, 9), 0x9000),
    "add_locked": lambda blocks: blocks.add_locked(DISK, [9, 10], [0x9000, 0xA000]),
    "remove": lambda blocks: blocks.remove((DISK, 2)),
    "read_by": lambda blocks: blocks.read_by(Run(DISK, 1, 1), Run(DISK, 1, 1)),
    "waiters": lambda blocks: setattr(blocks[DISK, 1], "waiters", (7,)),
    "no waiters": lambda blocks: setattr(blocks[DISK, 2], "waiters", ()),
    "changed": lambda blocks: setattr(blocks[DISK, 1], "changed", True),
    "family": lambda blocks: setattr(blocks[DISK, 1], "family", 3),
    "writers": lambda blocks: setattr(blocks[DISK, 1], "writers", 1),
    "doomed": lambda blocks: setattr(blocks[DISK, 1], "doomed", True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_keeps_the_blocks_again_after_each_kind_of_change_and_not_after_a_look(change: str) -> None:
    blocks = Blocks()
    blocks.add_locked(DISK, [1, 2, 3], [0x1000, 0x2000, 0x3000])
    if "free" in change:
        blocks.remove((DISK, 3))
    blocks[DISK, 2].waiters = (5,)
    blocks.uses.locks[blocks.place((DISK, 2))] = 0
    keeper = RecordKeeper([blocks])
    kept = keeper.keep()
    before, _ = kept
    assert everything(blocks) != everything(Blocks())
    assert keeper.keep() is kept, "they were looked at"
    CHANGES[change](blocks)
    after = next(known for known in keeper.keep() if known.record is blocks)
    assert after.content == FORMS[Blocks].content(blocks) != before.content


@pytest.mark.parametrize(("status", "failed"), [(None, None), (DiskStatus.DONE, None), (DiskStatus.FAILED,) * 2])
def test_a_block_has_failed_only_if_what_was_to_read_it_has(
    status: DiskStatus | None, failed: DiskStatus | None
) -> None:
    blocks = Blocks()
    blocks.add((DISK, 3), 0x3000)
    assert blocks.failed((DISK, 3)) is blocks[DISK, 3].failed is None, "nothing reads it yet"
    run = Run(DISK, 3, 1, status)
    blocks.read_by(run, run)
    assert blocks.failed((DISK, 3)) is blocks[DISK, 3].failed is failed


def test_there_is_no_oldest_block_where_none_may_be_evicted() -> None:
    blocks = Blocks()
    blocks.add_locked(DISK, [3], [0x3000])
    with pytest.raises(IndexError, match="no block may be evicted"):
        blocks.oldest()
