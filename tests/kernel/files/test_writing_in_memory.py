"""Files that are written to in memory: whole pages can be, nothing else can, no disk ever changes, nothing is lost."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_WINDOW_BYTES
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.limits import CHANGED_BLOCKS_PART
from callgate.kernel.abi.memory import PTE_DIRTY
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.memory.user_memory import BadAddress
from callgate.kernel.servers import volumes
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE

Sessions = Callable[..., Any]
SECTORS = 8192
IMAGE = synthetic.disk(SECTORS)
PATTERN = 0xA5
ERRORS = 0xFFFF_0000
SECTOR, BLOCK = 512, 4096
PER_BLOCK = BLOCK // SECTOR
Layout = synthetic.Layout


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Layout]:
    """The files of the synthetic disk, none of them read-only, for the test to fill."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "attributes", FileAttributes(0))
    synthetic.Synthetic.files = {}
    synthetic.Synthetic.released = []
    synthetic.Synthetic.held = {}
    return synthetic.Synthetic.files


def write(session: Sessions, mode: str, name: str, *others: tuple[str, str], **options: Any) -> Any:
    """Run the writer on a file to its end."""
    settings = {"scratch": True} | options
    made = session(MemoryMedium(IMAGE), programs=[("writer", f"{mode}/d0/{name}"), *others], **settings)
    made.run()
    return made


def apart(seed: int) -> Layout:
    """Return a file in pieces that lie anywhere, no two in the same block, and holes."""
    source = random.Random(seed)
    runs: list[tuple[int | None, int]] = []
    at = 8
    while sum(count for _, count in runs) < 500:
        count = source.choice([1, 3, 8, 8, 16, 40, source.randrange(1, 100)])
        if source.random() < 0.2:
            runs.append((None, count))
            continue
        at += source.choice([0, 0, 0, source.randrange(8)])
        runs.append((at, count))
        at = -(-(at + count) // 8) * 8 + 8 * source.randrange(3)
    sectors = sum(count for _, count in runs)
    return Layout(sectors * SECTOR - source.choice([0, source.randrange(SECTOR)]), runs, source.choice([506, 40, 5]))


def places(layout: Layout) -> list[int | None]:
    """Return for each sector of a file its sector on the disk."""
    return [None if first is None else first + index for first, count in layout.runs for index in range(count)]


def writable(layout: Layout, shift: int) -> list[bool]:
    """Return for each sector of a file whether its page is a block of the disk with nothing else in it."""
    found = places(layout)
    begin = shift // SECTOR
    result = []
    for sector in range(len(found)):
        first = (sector + begin) // PER_BLOCK * PER_BLOCK - begin
        page = found[max(first, 0) : first + PER_BLOCK]
        place = page[0]
        aligned = place is not None and place % PER_BLOCK == 0
        in_order = aligned and page == list(range(place or 0, (place or 0) + PER_BLOCK))
        result.append(first >= 0 and in_order and (first + PER_BLOCK) * SECTOR <= layout.size)
    return result


def cached(made: Any) -> dict[int, bytes]:
    """Return what the cache has of the disk, by block."""
    ram = made.kernel.machine.ram
    return {key[1]: bytes(ram.view(block.frame, BLOCK)) for key, block in made.kernel.cache.state.blocks.items()}


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("map_edges", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_whole_pages_can_be_written_to_and_nothing_else(
    session: Sessions, files: dict[str, Layout], seed: int, map_edges: bool
) -> None:
    """Heads, tails, holes and pages that share a block with others are read-only; so no neighbour ever changes."""
    layout = files["f"] = apart(seed)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "s/d0/f")], scratch=True, map_edges=map_edges)
    made.reach("writer", "reread")
    (file,) = made.kernel.files.objects.values()
    whole = writable(layout, file.shift)
    made.run()
    assert made.output[: len(whole)] == b"".join(b"w" if one else b"." for one in whole), made.log
    assert any(whole)
    assert not all(whole)
    assert made.output[len(whole) :] == after(layout, whole)
    changed = {(place or 0) // PER_BLOCK for place, one in zip(places(layout), whole, strict=True) if one}
    for block, data in cached(made).items():
        same = IMAGE[block * BLOCK : (block + 1) * BLOCK]
        assert data == (bytes([PATTERN]) * BLOCK if block in changed else same), block
    assert made.kernel.cache.state.changed == len(changed)
    assert made.unaccounted() == []


def after(layout: Layout, whole: list[bool]) -> bytes:
    """Return a file's content after the pattern has been written to these sectors."""
    content = layout.content(IMAGE)
    sectors = [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)]
    return b"".join(bytes([PATTERN]) * SECTOR if one else old for one, old in zip(whole, sectors, strict=True))


def straight(pages: int, tail: int = 0, first: int = 64) -> Layout:
    """Return a file in one aligned piece: whole pages, and some bytes more."""
    return Layout(pages * BLOCK + tail, [(first, pages * PER_BLOCK + -(-tail // SECTOR))])


def test_what_is_mapped_is_written_to_without_a_system_call_and_seen_everywhere(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """A window of another opening shows it at once; the last bytes, in a page that is not whole, end the write."""
    files["f"] = straight(300, 1000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "a/d0/f")], scratch=True)
    counts = []
    for label in ("again_begin", "again_end"):
        made.reach("writer", label)
        counts.append(made.system.machine.ledger.counts())
        made.system.machine.step()
    spent = counts[1] - counts[0]
    assert spent.sites.get("client_gates", 0) == 0
    assert spent.exceptions == {"#PF": 1}, "of the last page, which is refused"
    assert spent.as_dict()["cpu_file_bytes"] == {"kernel": 0, "server": 0, "client": 300 * BLOCK}
    assert made.run().reason == "halt"
    assert made.codes == [300 * BLOCK], made.log
    assert made.output == bytes([PATTERN]) * 300 * BLOCK + files["f"].content(IMAGE)[300 * BLOCK :]
    assert made.kernel.cache.state.changed == 300
    assert made.unaccounted() == []


def test_an_object_of_the_server_cannot_be_written_to(session: Sessions, files: dict[str, Layout]) -> None:
    files["f"] = straight(8)
    files["f"].kind = "object"
    made = write(session, "a", "f")
    assert made.codes == [ERRORS + ErrorCode.COPIED_PAGE]
    assert made.kernel.cache.state.changed == 0


@pytest.mark.parametrize(
    ("mode", "attributes", "scratch", "code"),
    [
        ("a", FileAttributes(0), False, ErrorCode.NO_SCRATCH),
        ("a", FileAttributes.READ_ONLY, True, ErrorCode.READ_ONLY),
        ("a", FileAttributes.READ_ONLY, False, ErrorCode.READ_ONLY),
        ("f", FileAttributes(0), True, ErrorCode.BAD_ARGUMENT),
    ],
)
def test_what_may_not_be_written_to_is_not_opened_to_be(
    session: Sessions,
    files: dict[str, Layout],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    attributes: FileAttributes,
    scratch: bool,
    code: ErrorCode,
) -> None:
    """Because the machine is none whose changes may be lost, or the file says so, or the flag does not exist."""
    monkeypatch.setattr(synthetic.Synthetic, "attributes", attributes)
    files["f"] = straight(8)
    made = write(session, mode, "f", scratch=scratch)
    assert made.codes == [ERRORS + code]
    assert made.unaccounted() == []


def test_a_window_that_was_opened_to_be_read_ends_who_writes_to_it(session: Sessions, files: dict[str, Layout]) -> None:
    """Even where the same file is open to be written elsewhere."""
    files["f"] = straight(8)
    made = write(session, "x", "f", ("writer", "a/d0/f"))
    assert made.codes == [FAULT_EXIT_CODE, 8 * BLOCK]
    reason = "the file was not opened to be written (a page of a file)"
    assert any("#PF page fault: write of" in line and reason in line for line in made.log)
    assert made.unaccounted() == []


def test_nobody_writes_through_a_pointer_that_has_outlived_its_window(
    session: Sessions, files: dict[str, Layout]
) -> None:
    files["f"] = straight(8)
    made = write(session, "o", "f")
    assert made.codes == [FAULT_EXIT_CODE]
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


@pytest.mark.parametrize("gone", [False, True])
def test_what_the_kernel_writes_for_a_program_counts_as_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """A system call's result in a page of a file: as if the CPU had written it, also if the page was let go of."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.fills[0])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert b"rom\0" in made.output
    touched = made.system.machine.ledger.counts().as_dict()["cpu_file_bytes"]
    assert touched["kernel"] == size_of(VolumeInformation)
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


def test_a_page_that_goes_again_and_again_is_asked_for_as_often(
    session: Sessions, files: dict[str, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the kernel could write to it: other threads may move the window, or need the memory."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    (file,) = made.kernel.files.objects.values()
    made.kernel.letting_go.release(file, file.fills[0])
    get, times = made.kernel.reading.fault, iter(range(1000))

    async def lose(*which: Any) -> bool:
        return next(times, None) is not None or await get(*which)

    monkeypatch.setattr(made.kernel.reading, "fault", lose)
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.kernel.cache.state.changed == 1


def test_what_the_kernel_does_not_write_after_all_does_not_count(session: Sessions, files: dict[str, Layout]) -> None:
    """A result that would begin in a page of a file and end where nothing can be."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    (process,) = made.processes
    (opened,) = process.files.values()
    with pytest.raises(BadAddress):
        made.kernel.processes.memory_of(process).write(opened.window + BLOCK - 1, b"ab")
    assert not made.kernel.memory.tables.entry(process.pointers, opened.window) & PTE_DIRTY


@pytest.mark.parametrize("gone", [False, True])
def test_a_range_that_is_mapped_again_keeps_what_was_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """Neither the dirty bit from before is lost, nor, if it was let go of, the CPU's reason to set it again."""
    files["f"] = straight(3)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "r/d0/f")], scratch=True)
    made.run(until=made.label("writer", "again_written" if gone else "again_mapped"))
    cache = made.kernel.cache.state
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.fills[0])
        # As if it had not been noticed: the next write must be.
        ((key, block),) = [(key, block) for key, block in cache.blocks.items() if block.changed]
        block.changed = False
        made.kernel.cache.unlock([key])
        cache.changed = 0
    else:
        assert cache.changed == 1
    assert made.run().reason == "halt"
    assert made.output[:12] == PATTERN.to_bytes(4, "little") * 3
    assert cache.changed == 1
    assert made.unaccounted() == []


@pytest.mark.thorough(only=True)
def test_changed_blocks_stay_when_everything_else_has_to_go(session: Sessions, files: dict[str, Layout]) -> None:
    """A cache of 256 blocks, 60 of them changed, and a reader of a file of 300 behind them."""
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
    """What fits is changed, and there as long as the machine is; the rest is NO_MEMORY."""
    files["f"] = straight(400)
    made = write(session, "a", "f", high_memory=1 << 20)
    assert made.codes == [256 // CHANGED_BLOCKS_PART * BLOCK], "what was written, as at the end of a file"
    assert made.kernel.cache.state.changed == 256 // CHANGED_BLOCKS_PART
    kept = [data for data in cached(made).values() if data == bytes([PATTERN]) * BLOCK]
    assert len(kept) == made.kernel.cache.state.changed
    assert made.unaccounted() == []


@pytest.mark.parametrize(("cache", "changed"), [(256, 128), (60, 18)])
def test_a_program_that_has_changed_all_it_may_leaves_readers_of_other_disks_their_memory(
    session: Sessions, files: dict[str, Layout], cache: int, changed: int
) -> None:
    """A file of more than what is left is read through it, and no change is lost; also where the cache is tiny."""
    files["f"] = straight(400)
    files["g"] = straight(300, 77, first=4000)
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


def test_pages_that_are_mapped_to_be_written_and_are_not_make_room_for_those_that_are(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """Of 256 that may be changed a program has 100 mapped so, and changes none; another one changes 240."""
    files["f"] = straight(240)
    files["g"] = straight(100, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "h/d0/g")], scratch=True, high_memory=1 << 21)
    made.reach("writer", "held")
    holder = made.processes[0]
    assert made.kernel.cache.state.claimed == 100
    writer = made.start("writer", "a/d0/f")
    assert made.run(until=lambda: writer.exit_code is not None).reason == "until"
    assert writer.exit_code == 240 * BLOCK
    assert made.kernel.cache.state.evictions == 0, "nobody else has made room"
    made.kernel.processes.kill(holder, 9, "killed")
    assert made.run().reason == "halt"
    assert made.kernel.cache.state.changed == 240
    assert made.kernel.cache.state.claimed == 0
    assert made.unaccounted() == []


@pytest.mark.parametrize("lost", ["the claim", "the leave to write"])
def test_a_page_of_a_file_that_is_mapped_writable_without_leave_is_found(
    session: Sessions, files: dict[str, Layout], lost: str
) -> None:
    files["f"] = straight(3)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "h/d0/f")], scratch=True)
    made.reach("writer", "held")
    assert made.kernel.check() == []
    (opened,) = made.processes[0].files.values()
    (fill,) = made.kernel.files.objects[opened.object].fills
    claims = fill.users[made.processes[0].number, opened.page]
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


def test_a_window_that_moves_takes_no_change_with_it(session: Sessions, files: dict[str, Layout]) -> None:
    """A file of more than a window, whose first and last pages are on the disk, and lie at the same addresses."""
    window = FILE_WINDOW_BYTES // SECTOR
    files["f"] = Layout((window + 64) * SECTOR, [(64, 64), (None, window - 64), (128, 64)])
    made = write(session, "m", "f")
    assert made.codes == [3 * 8 * BLOCK], made.log
    assert made.output == bytes([PATTERN + 2]) * 8 * BLOCK + bytes([PATTERN + 1]) * 8 * BLOCK
    assert made.kernel.cache.state.changed == 16
    assert made.unaccounted() == []


def test_changes_go_with_their_disk_and_somebody_says_so(session: Sessions, files: dict[str, Layout]) -> None:
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
    assert "d0: 20 changed blocks of 4096 bytes have gone with the disk" in made.log
    assert made.unaccounted() == []


def test_what_a_killed_writer_has_changed_stays_changed(session: Sessions, files: dict[str, Layout]) -> None:
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


def test_a_copy_from_a_file_in_single_sectors_ends_too(session: Sessions, files: dict[str, Layout]) -> None:
    """Of which a page lies in eight blocks: a request for many would leave no room for the other window."""
    files["f"] = straight(60)
    files["g"] = Layout(60 * BLOCK, [(1000 + 15 * index, 1) for index in range(60 * PER_BLOCK)])
    made = session(MemoryMedium(IMAGE), programs=[("copier", "/d0/g /d0/f")], scratch=True, high_memory=1 << 19)
    assert made.run(fuel=10_000_000).reason == "halt", made.kernel.cache.state.changed
    assert made.codes == [0]
    copied = b"".join(cached(made)[number] for number in range(8, 8 + 60))
    assert copied == files["g"].content(IMAGE)
    assert made.unaccounted() == []


@pytest.mark.parametrize("pages", [100, 400])
def test_a_copy_from_window_to_window_ends(session: Sessions, files: dict[str, Layout], pages: int) -> None:
    """Also when changed blocks leave too little memory for a page of each of them: then it is an error."""
    files["f"] = straight(pages)
    files["g"] = straight(pages, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("copier", "/d0/g /d0/f")], scratch=True, high_memory=1 << 20)
    assert made.run(fuel=30_000_000).reason == "halt", made.kernel.cache.state.changed
    assert made.codes == [0 if pages < 128 else 100 + ErrorCode.NO_MEMORY]
    copied = made.kernel.cache.state.changed * BLOCK
    data = b"".join(cached(made)[number] for number in range(8, 8 + made.kernel.cache.state.changed))
    assert data == files["g"].content(IMAGE)[:copied]
    assert made.unaccounted() == []
