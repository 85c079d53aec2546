"""The areas that the page of a file lists: spans that touch at a page are one, others are not."""

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.file import SpanState
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.spans import Span

PAGE = 4096
MIB = 1 << 20


def areas(*spans: tuple[int, int, SpanState], size: int = 64 << 30, shift: int = 0) -> list[tuple[int, int]]:
    """Return the areas of a file with these spans: position, length, state."""
    file = FileObject(1, 0, 1, 1, size, FileAttributes(0), 0, shift=shift)
    for number, (position, length, state) in enumerate(spans):
        file.insert(Span(number, position, length, state))
    return file.areas()


def ready(*ranges: tuple[int, int]) -> list[tuple[int, int, SpanState]]:
    return [(position, length, SpanState.READY) for position, length in ranges]


def test_spans_that_touch_at_a_page_are_one_area() -> None:
    assert areas(*ready((0, PAGE), (PAGE, 3 * PAGE), (5 * PAGE, PAGE))) == [(0, 4 * PAGE), (5 * PAGE, PAGE)]
    assert areas(*ready((PAGE, PAGE), (2 * PAGE, 9)), size=2 * PAGE + 9) == [(PAGE, PAGE + 9)]
    assert areas() == []


def test_a_span_that_is_on_its_way_is_not_an_area() -> None:
    waiting = (PAGE, PAGE, SpanState.WAITING)
    assert areas(*ready((0, PAGE)), waiting, *ready((2 * PAGE, PAGE))) == [(0, PAGE), (2 * PAGE, PAGE)]


def test_pages_of_a_file_begin_where_its_data_begin_on_the_disk() -> None:
    """A page of which the rest has still to come is not mapped: data after it are another area."""
    assert areas(*ready((0, PAGE - 512), (PAGE - 512, PAGE)), shift=512) == [(0, 2 * PAGE - 512)]
    assert areas(*ready((0, PAGE), (PAGE, PAGE)), shift=512) == [(0, PAGE), (PAGE, PAGE)]


def test_an_area_is_no_longer_than_its_record_can_say() -> None:
    """With enough memory for data that more than 4 GiB of one file are in it."""
    pieces = [(index << 30, 1 << 30) for index in range(9)]
    assert areas(*ready(*pieces)) == [(0, 3 << 30), (3 << 30, 3 << 30), (6 << 30, 3 << 30)]
