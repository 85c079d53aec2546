"""`file_peek` on pages of areas of every number and shape, against Python's bisection, with its budget.

The routine runs alone on a bare CPU: what it would ask the kernel for is an error that says so.
"""

import random
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_AREAS, FILE_WINDOW_BYTES, FileArea, FilePage
from callgate.kernel.abi.memory import PAGE_SIZE

SOURCES = """
        .macro  SYSTEM call
        mov     eax, SystemCall.\\call
        stc
        .endm
        .include "file.asm"
"""
FILE, PAGE = 0x20000, 0x21000
WINDOW = 0x4000_0000
SHIFT = 1536
RANDOM_BUDGET = 60  # of the design, with the call of `file_seek` and of `file_peek`
SEEK_AND_CALLS = 5
NEAR_MOST, FAR_MOST = 53, 103
CHANGED = 7  # more if the page has changed since, and the position is in the area remembered from before
Areas = list[tuple[int, int]]


class Finder:
    """A File and its FilePage in a bare CPU's memory."""

    def __init__(self, cpu: Any) -> None:
        self.cpu = cpu
        cpu.load(SOURCES)
        self.most = 0
        self.most_changed = 0

    def set(self, areas: Areas, size: int, *, base: int = 0) -> None:
        """Write the page, and a File that has been used before but remembers no area."""
        page = FilePage(sequence=8, valid=1, size=size, shift=SHIFT, count=len(areas))
        page.areas[:] = [FileArea(*area, 0) for area in areas] + [FileArea(-1, -1, -1)] * (FILE_AREAS - len(areas))
        self.cpu.write(PAGE, bytes(page) + b"\xee" * 64)
        self.cpu.place("File", FILE, page=PAGE, window=WINDOW, sequence=0xFFFF_FFFF)
        self.cpu.write(FILE + self.offset("base"), base.to_bytes(8, "little"))
        if size <= FILE_WINDOW_BYTES - PAGE_SIZE:
            self.cpu.write(FILE + self.offset("near"), size.to_bytes(4, "little"))
            self.cpu.write(FILE + self.offset("delta"), (WINDOW + SHIFT).to_bytes(4, "little"))

    def offset(self, field: str) -> int:
        return int(getattr(self.cpu.structure("File"), field).offset)

    def find(self, position: int) -> tuple[int, int] | None:
        """Return (address, bytes there), None if the kernel would be asked: whatever area is remembered."""
        self.cpu.write(FILE + self.offset("length"), bytes(4))
        self.cpu.write(FILE + self.offset("position"), position.to_bytes(8, "little"))
        result = self.cpu.call("file_peek", ebx=FILE)
        if result.eflags & 1:
            assert result.eax == SystemCall.MAP_FILE
            return None
        self.most = max(self.most, result.ledger.guest_instructions)
        remembered = self.cpu.call("file_peek", ebx=FILE)
        self.cpu.write(FILE + self.offset("sequence"), b"\xff" * 4)
        changed = self.cpu.call("file_peek", ebx=FILE)
        self.most_changed = max(self.most_changed, changed.ledger.guest_instructions)
        assert (result.eax, result.ecx) == (remembered.eax, remembered.ecx) == (changed.eax, changed.ecx)
        return result.eax, result.ecx


def expected(areas: Areas, size: int, position: int, base: int = 0) -> tuple[int, int] | None:
    """What `find` must return."""
    if position >= size:
        return 0, 0
    index = bisect_right(areas, position, key=lambda area: area[0]) - 1
    left = sum(areas[index]) - position if index >= 0 else 0
    room = FILE_WINDOW_BYTES - SHIFT - (position - base)
    if left <= 0 or position < base or room <= 0:
        return None
    return WINDOW + SHIFT + position - base, min(left, room)


def interesting(areas: Areas, size: int) -> list[int]:
    """Return the positions around every border, and a few in between."""
    found = {0, size - 1, size, size + 1}
    for position, length in areas:
        found |= {position - 1, position, position + length // 2, position + length - 1, position + length}
    return sorted(position for position in found if position >= 0)


def areas_with_gaps(source: random.Random, count: int, limit: int, at: int = 0) -> Areas:
    """Return `count` areas with gaps between them, below `limit`."""
    room = (limit - at) // max(count, 1) // PAGE_SIZE
    areas = []
    for index in range(count):
        start = at + index * room * PAGE_SIZE + source.randrange(1 if index else 2) * PAGE_SIZE
        areas.append((start, source.randrange(1, room - 1) * PAGE_SIZE))
    return areas


@pytest.fixture
def finder(bare_cpu: Any) -> Finder:
    return Finder(bare_cpu)


def test_areas_of_many_are_found_at_random_positions(finder: Finder) -> None:
    source = random.Random(61)
    size = (60 << 20) - 77
    for count in (3, 31, FILE_AREAS):
        areas = areas_with_gaps(source, count, size)
        finder.set(areas, size)
        for position in source.sample(interesting(areas, size), 12):
            assert finder.find(position) == expected(areas, size, position), (count, position)


@pytest.mark.thorough(only=True)
def test_every_area_of_any_number_of_them_is_found_within_the_budget(finder: Finder) -> None:
    """A window that shows the whole file: random 4 KiB reads."""
    source = random.Random(60)
    size = (60 << 20) - 77
    for count in (0, 1, 2, 3, 4, 7, 8, 31, 62, 63, 124, 125, 126, 200, FILE_AREAS - 1, FILE_AREAS):
        areas = areas_with_gaps(source, count, size)
        finder.set(areas, size)
        for position in interesting(areas, size):
            assert finder.find(position) == expected(areas, size, position), (count, position)
    assert finder.most == NEAR_MOST
    assert finder.most_changed == NEAR_MOST + CHANGED
    assert NEAR_MOST + SEEK_AND_CALLS <= RANDOM_BUDGET


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("base", [0, 2 << 20, 4094 << 20, 4096 << 20, (9 << 32) + (126 << 20)])
def test_areas_of_a_file_larger_than_a_window_are_cut_to_the_window(
    finder: Finder, base: int, some_of: Callable[[list[int], int], list[int]]
) -> None:
    """Also where positions have more than 32 bits, and areas that end before the window or begin after it."""
    source = random.Random(base)
    size = (10 << 32) + 5
    for count in (0, 1, 5, 64, FILE_AREAS):
        areas = areas_with_gaps(source, count, base + (96 << 20), max(0, base - (32 << 20)))
        finder.set(areas, size, base=base)
        positions = some_of(interesting(areas, size), 4)
        for position in [*positions, base - 1, base, base + FILE_WINDOW_BYTES - SHIFT]:
            if position >= 0:
                assert finder.find(position) == expected(areas, size, position, base), (count, position)
    assert finder.most <= FAR_MOST


def test_the_first_search_finds_out_where_the_window_is(finder: Finder) -> None:
    """A File as `file_open` leaves it knows neither delta nor that the window shows the whole file."""
    areas = [(0, 8192), (16384, 4096)]
    finder.set(areas, 20000)
    finder.cpu.write(FILE + finder.offset("near"), bytes(4))
    finder.cpu.write(FILE + finder.offset("delta"), b"\xee" * 4)
    assert finder.find(16390) == expected(areas, 20000, 16390)
    far = finder.most
    finder.most = 0
    assert finder.find(5) == expected(areas, 20000, 5)
    assert finder.most < far
    assert finder.cpu.field("File", FILE, "near") == 20000


@pytest.mark.parametrize(("beyond", "near"), [(0, FILE_WINDOW_BYTES - SHIFT), (1, 0)])
def test_every_file_that_its_window_shows_whole_is_called_near(finder: Finder, beyond: int, near: int) -> None:
    size = FILE_WINDOW_BYTES - SHIFT + beyond
    areas = [(0, size - 5000)]
    finder.set(areas, size)
    finder.cpu.write(FILE + finder.offset("near"), bytes(4))
    for position in (7, size - 5001, size - 1):
        assert finder.find(position) == expected(areas, size, position)
        assert finder.cpu.field("File", FILE, "near") == near


def test_a_file_whose_disk_or_server_has_gone_says_why_at_every_position(finder: Finder) -> None:
    """Also where an area is remembered from before, whichever position is searched first."""
    finder.set([(0, 8192)], 20000)
    assert finder.find(5) is not None
    page = FilePage(sequence=10, valid=0, error=ErrorCode.UNPLUGGED, size=20000, shift=SHIFT)
    page.areas[:] = [FileArea(-1, -1, -1)] * FILE_AREAS
    finder.cpu.write(PAGE, bytes(page))
    for position, code in ((20000, ErrorCode.UNPLUGGED), (5, SystemCall.MAP_FILE)):
        finder.cpu.write(FILE + finder.offset("position"), position.to_bytes(8, "little"))
        result = finder.cpu.call("file_peek", ebx=FILE)
        assert result.eflags & 1
        assert result.eax == code, "at the end the page says it, elsewhere the kernel does"
