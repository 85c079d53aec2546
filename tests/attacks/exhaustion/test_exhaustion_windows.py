"""Programs that open files and look at them in many places: the kernel's memory for that is in their share too."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.servers import volumes
from callgate.server.hosted import operation
from callgate.server.message import Registers, RegisterValues, Reply, Request
from work_counter import lines_executed

HELD, FAULT = 0, 139
IMAGE = synthetic.disk(2048)
PAGES = 1 << 14
Arenas = Callable[..., Any]


class AlwaysNewFiles(synthetic.Synthetic):
    """Knows no file again: every open is one of a file of its own.  `size` is in bytes."""

    size: ClassVar[int] = PAGES * PAGE_SIZE

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        return Registers(RegisterValues(eax=1, ecx=self.size))


@pytest.fixture
def mapping(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Arenas:
    """Make an arena with a mapper of a file of 64 MiB of holes."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [AlwaysNewFiles])
    holes = synthetic.Layout(PAGES * PAGE_SIZE, [(None, PAGES * PAGE_SIZE // SECTOR_SIZE)], most=1)
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": holes})

    def make(**defines: int) -> Any:
        made = arena(MemoryMedium(IMAGE))
        made.attacker("mapper", **defines)
        return made

    return make


@pytest.mark.parametrize(
    ("defines", "code"),
    [
        ({"FILES": 2, "PAGES": 32, "STEP": LARGE_PAGE_SIZE}, FAULT),
        ({"FILES": 50, "PAGES": 0, "STEP": 0}, 100 + ErrorCode.NO_MEMORY),
    ],
    ids=["page tables", "pages of files"],
)
def test_windows_and_files_leave_the_frames_that_programs_leave(
    mapping: Arenas, monkeypatch: pytest.MonkeyPatch, defines: dict[str, int], code: int
) -> None:
    """Page tables and pages of files count as their program's, and the last frames are not for them."""
    monkeypatch.setattr(AlwaysNewFiles, "size", PAGES * PAGE_SIZE if defines["PAGES"] else PAGE_SIZE)
    spare, least = 40, [1 << 30]
    made = mapping(**defines)
    take = FramePool.allocate

    def watched(pool: FramePool) -> int:
        frame = take(pool)
        if pool is made.kernel.memory.low and made.attackers and made.attackers[0].threads:
            least.append(pool.available)
        return frame

    def reserve() -> None:
        reserved = made.kernel.memory.low.available - spare
        monkeypatch.setattr(limits, "FRAMES_RESERVED_PROGRAMS", reserved)
        least[0] = reserved

    made.wanted.append(reserve)
    monkeypatch.setattr(FramePool, "allocate", watched)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [code], made.log
    assert min(least) >= least[0] - 4, "what the server and its request take for themselves"
    made.assert_unharmed()


def test_windows_of_files_do_not_grow_into_the_messages_of_servers(
    mapping: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows of 64 large files do not fit between USER_FILES and USER_FILES_END, however little is looked at."""
    monkeypatch.setattr(AlwaysNewFiles, "size", 1 << 30)
    made = mapping(FILES=limits.FILES_OF_PROCESS, PAGES=0, STEP=0)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [100 + ErrorCode.NO_MEMORY], made.log
    made.assert_unharmed()


def test_the_page_of_each_open_file_counts_as_memory_of_its_program(
    mapping: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AlwaysNewFiles, "size", PAGE_SIZE)
    monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", 60)
    made = mapping(FILES=limits.FILES_OF_PROCESS, PAGES=0, STEP=0)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [100 + ErrorCode.NO_MEMORY], made.log
    made.assert_unharmed()


def test_releasing_many_spans_searches_for_them_once(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ALLOCATE for which 100 copies have to go: among 2,048 it would search 100 times, and list the file anew."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    ragged = [(8 * page + 1, 9 if page % 2 else 7) for page in range(1, 251)]
    layout = synthetic.Layout(250 * PAGE_SIZE, [*ragged], most=2)
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": layout})
    made = arena(MemoryMedium(synthetic.disk(2100)))
    made.attacker("mapper", FILES=1, PAGES=120, STEP=2 * PAGE_SIZE)
    close, lines = made.kernel.files.close_all, []

    def watched(process: Any) -> None:
        if process is made.attackers[0]:
            copies = sum(len(span.private) for file in made.kernel.files.objects.values() for span in file.spans)
            assert copies >= 100
            lines.append(lines_executed(lambda: made.kernel.shares.leave(made.kernel.memory.low.available, 100)))
        close(process)

    made.kernel.files.close_all = watched
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    assert lines[0] < 200 * 100, "lines of Python for 100 spans"
    made.assert_unharmed()


def test_spans_are_mapped_a_bounded_number_of_times(mapping: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise releasing them, when their server dies, would be a host call without a bound: windows times blocks."""
    monkeypatch.setattr("callgate.kernel.files.reading.MAPPED_BLOCKS", 20)
    made = mapping(FILES=5, PAGES=10, STEP=2 * PAGE_SIZE)
    windows, counted = made.kernel.mapping, []
    get = windows.map

    def watched(*which: Any) -> None:
        get(*which)
        counted.append(sum(len(span.users) for file in made.kernel.files.objects.values() for span in file.spans))

    windows.map = watched
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    assert max(counted) == 20
    made.assert_unharmed()


def test_a_family_whose_spans_fill_all_windows_leaves_another_familys_reads_their_turn(
    mapping: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most idle span is released for a reader, whichever family has it in a window."""
    monkeypatch.setattr("callgate.kernel.files.reading.MAPPED_BLOCKS", 8)
    made = mapping(FILES=2, PAGES=30, STEP=2 * PAGE_SIZE)
    made.attacker("mapper", FILES=2, PAGES=30, STEP=2 * PAGE_SIZE)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD, HELD], made.log
    assert len({process.family for process in made.attackers}) == 2
    made.assert_unharmed()
