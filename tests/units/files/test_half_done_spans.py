"""File data at instants between an answer and its data: spans that are cut, on their way, or whose file is gone."""

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.core.records import SectorPiece
from callgate.kernel.file_data.spans import Part, Span
from plain_files import PAGE, FileData
from plain_guest import drive, refusal

WRITABLE = 2


@pytest.fixture
def data() -> FileData:
    found = FileData()
    found.endpoint.start = 0
    return found


def test_a_page_that_a_span_before_has_begun_is_not_taken_over_while_its_data_are_on_their_way(data: FileData) -> None:
    """The server has answered both; the first one ends within the page, and its blocks have not arrived."""
    file = data.new_file(4 * PAGE)
    before = data.expect(file, 0, 512)
    span = data.expect(file, 512, 4 * PAGE - 512)
    assert data.pages.begin(file, span, 512, 4 * PAGE - 512, [(1, 1, 7), (1, 0, 8), (1, 0, 8), (1, 0, 8)])
    assert (span.position, span.end) == (PAGE, 4 * PAGE)
    assert (before.position, before.length, span.begun) == (0, 512, None)


def test_nothing_is_given_back_to_a_file_whose_volume_is_gone(data: FileData) -> None:
    file = data.new_file(PAGE)
    frame = data.memory.cleared()
    span = Span(5, 0, PAGE)
    span.private, span.begun = [frame], Part(frame, 0, 512)
    file.error = ErrorCode.UNPLUGGED
    assert data.pages.give_back(file, span) is None
    file.error = ErrorCode.OK
    before = data.pages.give_back(file, span)
    assert before is not None
    assert (before.length, before.private, span.private) == (512, [frame], [])


@pytest.mark.parametrize(("offset", "copied"), [(0, 0), (512, 1)])
def test_an_edge_is_mapped_as_it_is_only_if_it_lies_at_the_same_place_of_its_page(
    data: FileData, offset: int, copied: int
) -> None:
    data.map_edges = True
    block = data.high.allocate()
    data.guest.ram.write(block, b"begin".ljust(512, b".") + bytes(PAGE - 512))
    frame = data.pages.make(Span(5, 0, PAGE), [Part(block, offset, 512)])
    assert data.guest.ram.read(frame + offset, 5) == b"begin"
    assert (frame != block, data.files_state.counters.copied_pages) == (bool(copied), copied)


def test_first_data_whose_blocks_another_thread_is_reading_are_waited_for_and_nothing_is_read(data: FileData) -> None:
    data.cache.lock(0x100, [2])
    file = data.new_file(PAGE)
    span = data.expect(file, 0, PAGE)
    drive(data.answers.opened(data.endpoint, file, span, PAGE, [SectorPiece(16, 0, 8)]))
    assert (span.state, data.runs) == (SpanState.WAITING, [])
    assert list(data.cache.state.blocks) == [(0x100, 2)], "nothing is read ahead"


def test_data_that_are_wanted_or_released_while_they_are_looked_at_stay_as_they_are(data: FileData) -> None:
    """Collecting accessed bits is a routine of machine code, during which threads may run."""
    file = data.new_file(4 * PAGE)
    opened = data.open_window(file)
    kept, gone = (data.put(file, 2 * index * PAGE, 2) for index in range(2))
    for span in (kept, gone):
        data.mapping.map(data.shell, opened, file, span)
        span.idle = 1

    def harvest_accessed(_call: object) -> None:
        kept.kept = 1
        if gone in file.spans:
            data.letting_go.release(file, gone)

    drive(data.ageing._look(), harvest_accessed=harvest_accessed)
    assert (file.spans, kept.frames != []) == ([kept], True)


def test_a_page_that_no_window_shows_cannot_be_written_to(data: FileData) -> None:
    file = data.new_file(4 * PAGE)
    opened = data.open_window(file, writable=True)
    data.put(file, 0, 2)
    for page in (0, 3):  # in memory, and not
        with refusal(ErrorCode.COPIED_PAGE):
            data.writing.allow(data.shell, opened, file, opened.window + page * PAGE)


def test_the_page_that_a_thread_may_write_to_spares_no_page_of_another_span(data: FileData) -> None:
    file = data.new_file(4 * PAGE)
    opened = data.open_window(file, writable=True)
    for index in range(2):
        data.mapping.map(data.shell, opened, file, data.put(file, 2 * index * PAGE, 2))
    first = file.spans[0]
    data.writing._take_back((first.number, data.shell.number, opened.page, 1))
    assert [bool(data.entry(opened, page) & WRITABLE) for page in range(4)] == [False, True, False, False]
