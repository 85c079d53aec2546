"""Windows on files: a program changes whole pages of a file that it opened to be written, and no other data."""

import random

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE
from written_disks import files
from written_files import BLOCK, IMAGE, PATTERN, PER_BLOCK, SECTOR, Layout, Sessions, cached, straight, write

__all__ = ["files"]

ERRORS = 0xFFFF_0000  # the writer's exit codes for an ErrorCode


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


def after(layout: Layout, whole: list[bool]) -> bytes:
    """Return a file's content after the pattern has been written to these sectors."""
    content = layout.content(IMAGE)
    sectors = [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)]
    return b"".join(bytes([PATTERN]) * SECTOR if one else old for one, old in zip(whole, sectors, strict=True))


@pytest.mark.thorough(one_in=5)
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


@pytest.mark.parametrize(
    ("attributes", "scratch", "code"),
    [(FileAttributes(0), False, ErrorCode.NO_SCRATCH), (FileAttributes.READ_ONLY, True, ErrorCode.READ_ONLY)],
)
def test_a_program_opens_no_file_to_be_written_that_it_may_not_change(
    session: Sessions,
    files: dict[str, Layout],
    monkeypatch: pytest.MonkeyPatch,
    attributes: FileAttributes,
    scratch: bool,
    code: ErrorCode,
) -> None:
    """Because changes are not to be lost on this machine, or because the file is read-only."""
    monkeypatch.setattr(synthetic.Synthetic, "attributes", attributes)
    files["f"] = straight(8)
    made = write(session, "a", "f", scratch=scratch)
    assert made.codes == [ERRORS + code]
    assert made.kernel.cache.state.changed == 0
    assert made.unaccounted() == []
