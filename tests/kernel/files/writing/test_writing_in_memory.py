"""Files that are written to in memory: whole pages can be, nothing else can, no disk ever changes, nothing is lost."""

import random
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import PTE_DIRTY
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.memory.user_memory import BadAddress
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE
from written_files import BLOCK, IMAGE, PATTERN, PER_BLOCK, SECTOR, Layout, Sessions, cached, straight, write

ERRORS = 0xFFFF_0000


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


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("map_edges", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_only_whole_pages_of_a_file_can_be_written_to(
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


def test_a_mapped_page_is_written_to_without_a_system_call_and_the_change_is_seen_everywhere(
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
def test_a_file_that_may_not_be_written_to_cannot_be_opened_for_writing(
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


def test_a_program_that_writes_to_a_window_opened_for_reading_is_ended(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """Even where the same file is open to be written elsewhere."""
    files["f"] = straight(8)
    made = write(session, "x", "f", ("writer", "a/d0/f"))
    assert made.codes == [FAULT_EXIT_CODE, 8 * BLOCK]
    reason = "the file was not opened for writing (a page of a file)"
    assert any("#PF page fault: write of" in line and reason in line for line in made.log)
    assert made.unaccounted() == []


def test_no_program_can_write_through_a_pointer_that_has_outlived_its_window(
    session: Sessions, files: dict[str, Layout]
) -> None:
    files["f"] = straight(8)
    made = write(session, "o", "f")
    assert made.codes == [FAULT_EXIT_CODE]
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


@pytest.mark.parametrize("gone", [False, True])
def test_bytes_that_the_kernel_writes_for_a_program_count_as_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """A system call's result in a page of a file: as if the CPU had written it, also if the page was released."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.spans[0])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert b"rom\0" in made.output
    touched = made.system.machine.ledger.counts().as_dict()["cpu_file_bytes"]
    assert touched["kernel"] == size_of(VolumeInformation)
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


def test_a_page_that_is_evicted_again_and_again_is_requested_as_often(
    session: Sessions, files: dict[str, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the kernel could write to it: other threads may move the window, or need the memory."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    (file,) = made.kernel.files.objects.values()
    made.kernel.letting_go.release(file, file.spans[0])
    get, times = made.kernel.reading.fault, iter(range(1000))

    async def lose(*which: Any) -> bool:
        return next(times, None) is not None or await get(*which)

    monkeypatch.setattr(made.kernel.reading, "fault", lose)
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.kernel.cache.state.changed == 1


def test_bytes_that_the_kernel_does_not_write_after_all_do_not_count(
    session: Sessions, files: dict[str, Layout]
) -> None:
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
def test_a_span_that_is_mapped_again_keeps_what_was_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """Neither the dirty bit from before is lost, nor, if the page was released, the CPU's reason to set it again."""
    files["f"] = straight(3)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "r/d0/f")], scratch=True)
    made.run(until=made.label("writer", "again_written" if gone else "again_mapped"))
    cache = made.kernel.cache.state
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.spans[0])
        # As if it had not been noticed: the next write must be.
        ((key, block),) = [(key, block) for key, block in cache.blocks.items() if block.changed]
        block.changed = False
        made.kernel.cache.unlock([key])
        cache.changed = 0
        cache.held.clear()
    else:
        assert cache.changed == 1
    assert made.run().reason == "halt"
    assert made.output[:12] == PATTERN.to_bytes(4, "little") * 3
    assert cache.changed == 1
    assert made.unaccounted() == []
