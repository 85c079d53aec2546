"""Blocks that differ from their disk: kept while there is room, counted, lost with their disk."""

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_WINDOW_BYTES
from callgate.kernel.abi.limits import CHANGED_BLOCKS_OF_FAMILY_PART, CHANGED_BLOCKS_PART
from written_files import BLOCK, IMAGE, PATTERN, PER_BLOCK, SECTOR, Layout, Sessions, cached, straight, write


@pytest.mark.thorough(only=True)
def test_changed_blocks_stay_when_all_other_blocks_are_evicted(session: Sessions, files: dict[str, Layout]) -> None:
    """A cache of 256 blocks, 60 of them changed, and a reader of a file of 300 after them."""
    files["f"] = straight(60)
    files["g"] = straight(300, 77, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "a/d0/f")], scratch=True, high_memory=1 << 20)
    made.reach("writer", "closed")
    made.start("reader", "b/d0/g")
    made.run()
    assert made.codes[0] == 60 * BLOCK
    assert made.codes[1] == 0
    assert bytes([PATTERN]) * 60 * BLOCK in made.output
    assert files["g"].content(IMAGE) in made.output.replace(bytes([PATTERN]) * 60 * BLOCK, b"")
    assert made.kernel.cache.state.changed == 60
    assert made.kernel.cache.state.evictions > 100
    assert made.unaccounted() == []


def test_more_changes_than_memory_are_an_error_and_none_is_lost(session: Sessions, files: dict[str, Layout]) -> None:
    """Changes that fit are kept for the life of the machine; the rest is NO_MEMORY."""
    files["f"] = straight(400)
    made = write(session, "a", "f", high_memory=1 << 20)
    share = 256 // CHANGED_BLOCKS_PART // CHANGED_BLOCKS_OF_FAMILY_PART
    assert made.codes == [share * BLOCK], "what was written, as at the end of a file"
    assert made.kernel.cache.state.changed == share
    kept = [data for data in cached(made).values() if data == bytes([PATTERN]) * BLOCK]
    assert len(kept) == made.kernel.cache.state.changed
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("cache", "changed"), [(256, 64), (60, 9)])
def test_a_program_that_has_changed_as_many_blocks_as_it_may_leaves_memory_for_readers_of_other_disks(
    session: Sessions, files: dict[str, Layout], cache: int, changed: int
) -> None:
    """A file of more than what is left is read through it, and no change is lost; also where the cache is tiny."""
    files["f"] = straight(120)
    files["g"] = straight(210, 77, first=4000)
    made = session(
        *(MemoryMedium(IMAGE) for _ in range(2)),
        programs=[("writer", "a/d0/f")],
        scratch=True,
        high_memory=cache * BLOCK,
    )
    made.reach("writer", "closed")
    made.kernel.processes.kill(made.processes[0], 9, "killed")
    made.start("reader", "b/d1/g")
    assert made.run().reason == "halt"
    assert made.codes == [9, 0], made.log
    assert made.output == files["g"].content(IMAGE)
    assert made.kernel.cache.state.changed == changed
    assert made.unaccounted() == []


def test_a_program_that_has_changed_all_it_may_leaves_programs_that_come_later_room_to_write(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """Its changes stay when it has ended: that is no reason to refuse a program that the shell starts then."""
    files["f"] = straight(400)
    files["g"] = straight(30, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "a/d0/f")], scratch=True, high_memory=1 << 20)
    made.reach("writer", "closed")
    made.kernel.processes.kill(made.processes[0], 9, "killed")
    made.start("writer", "a/d0/g")
    assert made.run().reason == "halt"
    assert made.codes == [9, 30 * BLOCK], made.log
    assert made.kernel.cache.state.changed == 64 + 30
    assert made.unaccounted() == []


@pytest.mark.parametrize("lost", ["the claim", "the leave to write"])
def test_a_page_of_a_file_that_is_mapped_writable_without_permission_is_found(
    session: Sessions, files: dict[str, Layout], lost: str
) -> None:
    files["f"] = straight(3)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "h/d0/f")], scratch=True)
    made.reach("writer", "held")
    assert made.kernel.check() == []
    (opened,) = made.processes[0].files.values()
    (span,) = made.kernel.files.objects[opened.object].spans
    claims = span.users[made.processes[0].number, opened.page]
    key = claims[1]
    if lost == "the claim":
        del claims[1]
    else:
        opened.writable = False
    found = [line for line in made.kernel.check() if line.startswith("writable_high_pages_are_changed_or_claimed: ")]
    assert len(found) == (1 if lost == "the claim" else 3)
    claims[1], opened.writable = key, True
    assert made.kernel.check() == []


def test_a_page_that_was_made_read_only_again_can_be_written_to_while_there_is_room(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """Its first write asks for it by a page fault; what the kernel writes for the program asks too."""
    files["f"] = straight(60)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True, high_memory=1 << 20)
    made.reach("writer", "describe_here")
    made.kernel.file_writing._take_back(None)
    assert (made.kernel.cache.state.changed, made.kernel.cache.state.claimed) == (0, 0)
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


def test_moving_a_window_loses_no_change(session: Sessions, files: dict[str, Layout]) -> None:
    """A file of more than a window, whose first and last pages are on the disk, and lie at the same addresses."""
    window = FILE_WINDOW_BYTES // SECTOR
    files["f"] = Layout((window + 64) * SECTOR, [(64, 64), (None, window - 64), (128, 64)])
    made = write(session, "m", "f")
    assert made.codes == [3 * 8 * BLOCK], made.log
    assert made.output == bytes([PATTERN + 2]) * 8 * BLOCK + bytes([PATTERN + 1]) * 8 * BLOCK
    assert made.kernel.cache.state.changed == 16
    assert made.unaccounted() == []


def test_changes_are_lost_with_their_disk_and_that_is_logged(session: Sessions, files: dict[str, Layout]) -> None:
    files["f"] = straight(20)
    medium = MemoryMedium(IMAGE)
    made = session(medium, programs=[("writer", "a/d0/f")], scratch=True)
    made.reach("writer", "again_end")
    made.system.unplug(0)
    cache = made.kernel.cache.state
    assert made.run(until=lambda: cache.lost > 0).reason == "until"
    assert (cache.lost, cache.changed) == (20, 0)
    made.system.plug(0, MemoryMedium(IMAGE))
    assert made.run(until=lambda: sum("/d0: synthetic" in line for line in made.log) > 1).reason == "until", made.log
    made.start("reader", "r/d0/f")
    assert made.run().reason == "halt"
    assert made.output == files["f"].content(IMAGE), "as it is on the disk"
    assert "d0: 20 changed blocks of 4096 bytes were lost with the disk" in made.log
    assert made.unaccounted() == []


def test_blocks_that_a_killed_writer_has_changed_stay_changed(session: Sessions, files: dict[str, Layout]) -> None:
    files["f"] = straight(20)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "a/d0/f")], scratch=True)
    made.reach("writer", "again_begin")
    made.kernel.processes.kill(made.processes[0], 9, "killed")
    made.start("reader", "b/d0/f")
    assert made.run().reason == "halt"
    assert made.codes == [9, 0]
    assert made.output == bytes([PATTERN]) * 20 * BLOCK
    assert made.kernel.cache.state.changed == 20
    assert made.unaccounted() == []


def test_a_copy_from_a_file_in_single_sectors_comes_to_its_end(session: Sessions, files: dict[str, Layout]) -> None:
    """Of which a page lies in eight blocks: a request for many would leave no room for the other window."""
    files["f"] = straight(60)
    files["g"] = Layout(60 * BLOCK, [(1000 + 15 * index, 1) for index in range(60 * PER_BLOCK)])
    made = session(MemoryMedium(IMAGE), programs=[("copier", "/d0/g /d0/f")], scratch=True, high_memory=1 << 20)
    assert made.run(fuel=10_000_000).reason == "halt", made.kernel.cache.state.changed
    assert made.codes == [0]
    copied = b"".join(cached(made)[number] for number in range(8, 8 + 60))
    assert copied == files["g"].content(IMAGE)
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("pages", [100, 400])
def test_a_copy_from_window_to_window_comes_to_its_end(session: Sessions, files: dict[str, Layout], pages: int) -> None:
    """Also when changed blocks leave too little memory for a page of each of them: then it is an error."""
    files["f"] = straight(pages)
    files["g"] = straight(pages, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("copier", "/d0/g /d0/f")], scratch=True, high_memory=1 << 21)
    assert made.run(fuel=30_000_000).reason == "halt", made.kernel.cache.state.changed
    assert made.codes == [0 if pages < 128 else 100 + ErrorCode.NO_MEMORY]
    copied = made.kernel.cache.state.changed * BLOCK
    data = b"".join(cached(made)[number] for number in range(8, 8 + made.kernel.cache.state.changed))
    assert data == files["g"].content(IMAGE)[:copied]
    assert made.unaccounted() == []
