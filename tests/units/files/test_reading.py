"""Reading through windows: what is mapped, what is read ahead, on a plain guest with file data in plain memory."""

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_SEQUENCE_NONE, FILE_WINDOW_BYTES, FilePage, SpanState
from callgate.kernel.abi.limits import MAPPED_BLOCKS
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.records import OpenFile, Process
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.spans import Span
from plain_files import PAGE
from plain_guest import drive, refusal
from plain_volume import Volume


@pytest.fixture
def volume() -> Volume:
    return Volume()


def read_file(volume: Volume, size: int, blocks: list[tuple[int, int]]) -> FileObject:
    """Open a file in the shell; the data at `blocks`, (position, pages), are in memory."""
    _, file = volume.open(size)
    file.shift = 0
    for position, pages in blocks:
        volume.put(file, position, pages)
    return file


def map_at(volume: Volume, position: int, wanted: int = 1) -> tuple[int, int, int]:
    return drive(volume.reading.map(volume.shell, 1, position, wanted))[0]


def test_mapped_data_lie_at_their_place_in_the_window_and_map_file_returns_the_sequence(
    volume: Volume,
) -> None:
    file = read_file(volume, 2 * PAGE, [(0, 2)])
    window = volume.shell.files[1].window
    address, size, sequence = map_at(volume, PAGE + 5)
    assert (address, size) == (window + PAGE + 5, PAGE - 5)
    assert sequence == FilePage.from_buffer(volume.guest.ram.view(file.frame, PAGE)).sequence
    assert map_at(volume, 2 * PAGE) == map_at(volume, 0, 0) == (0, 0, FILE_SEQUENCE_NONE)
    with refusal(ErrorCode.BAD_HANDLE):
        drive(volume.reading.map(volume.shell, 2, 0, 1))


def test_a_page_fault_in_a_window_maps_the_whole_span(volume: Volume) -> None:
    read_file(volume, 2 * PAGE + 1, [(0, 3)])
    opened = volume.shell.files[1]
    assert drive(volume.reading.fault(volume.shell, opened.window + PAGE))[0]
    assert [bool(volume.entry(opened, page) & 1) for page in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("page", [-2, 3, 4])
def test_a_fault_outside_the_pages_of_a_window_is_not_handled_by_files(volume: Volume, page: int) -> None:
    read_file(volume, 2 * PAGE + 1, [(0, 3)])
    assert not drive(volume.reading.fault(volume.shell, volume.shell.files[1].window + page * PAGE))[0]


def test_a_position_beyond_the_window_moves_it(volume: Volume) -> None:
    position = FILE_WINDOW_BYTES + 5 * PAGE
    read_file(volume, 2 * FILE_WINDOW_BYTES, [(position, 1)])
    volume.fields["slot_waiters"] = 1  # so nothing is read ahead
    address, size, _ = map_at(volume, position + 3)
    opened = volume.shell.files[1]
    assert (opened.position, address - opened.window, size) == (FILE_WINDOW_BYTES, 5 * PAGE + 3, PAGE - 3)


def test_a_sequential_reader_is_read_ahead_for_and_one_that_jumps_is_not(volume: Volume) -> None:
    posted: list[int] = []

    def touch(position: int) -> int:
        posted.clear()
        drive(
            volume.reading.map(volume.shell, 1, position, 1),
            ipc_post=lambda call: posted.append(call.eax),
        )
        return volume.shell.files[1].ahead

    file = read_file(volume, 64 << 20, [(0, 1), (PAGE, 1), (32 << 20, 1)])
    assert (touch(0), posted) == (2, [2 * PAGE])  # the second block is read ahead; the first is in memory
    assert (touch(32 << 20), posted) == (0, [])
    assert volume.files_state.counters.ahead == 1
    assert file.covering(2 * PAGE).ahead


def test_spans_that_have_arrived_after_that_of_a_sequential_reader_are_mapped_with_it(volume: Volume) -> None:
    read_file(volume, 64 << 20, [(page * PAGE, 1) for page in range(7)])
    opened = volume.shell.files[1]
    opened.ahead = 4
    map_at(volume, 0)
    assert [bool(volume.entry(opened, page) & 1) for page in range(7)] == [True] * 5 + [False] * 2
    assert (opened.expected, volume.files_state.mapped) == (5 * PAGE, 5)
    map_at(volume, 6 * PAGE)  # not where it was to go on
    assert not volume.entry(opened, 5) & 1


def test_a_span_that_is_mapped_already_is_passed_over_when_those_around_it_are_mapped_ahead(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_file(volume, 64 << 20, [(page * PAGE, 1) for page in range(4)])
    opened, mapping, mapped = volume.shell.files[1], volume.reading.mapping, list[int]()
    map_at(volume, PAGE)
    opened.expected, opened.ahead = 0, 4
    plain = mapping.map

    def noted(process: Process, window: OpenFile, file: FileObject, span: Span) -> None:
        mapped.append(span.position // PAGE)
        plain(process, window, file, span)

    monkeypatch.setattr(mapping, "map", noted)
    map_at(volume, 0)
    assert mapped == [0, 2, 3]
    assert opened.expected == 4 * PAGE


@pytest.mark.parametrize(
    "reason",
    [
        *("it jumps", "it may write", "half a page", "not arrived", "no room for page tables", "mapped too often"),
        "beyond the window",
    ],
)
def test_a_span_is_not_mapped_before_a_reader_touches_it_if(
    volume: Volume, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = FILE_WINDOW_BYTES - PAGE if reason == "beyond the window" else 0
    file = read_file(volume, 128 << 20, [(start, 1), (start + PAGE, 1)])
    volume.fields["slot_waiters"] = 1  # so nothing is read ahead
    opened, following = volume.shell.files[1], file.covering(start + PAGE)
    opened.expected, opened.ahead = (PAGE, 1) if reason == "it jumps" else (start, 1)
    opened.writable = reason == "it may write"
    if reason == "half a page":
        following.length = PAGE // 2
    elif reason == "not arrived":
        following.state = SpanState.WAITING
    elif reason == "no room for page tables":
        volume.shares.memory.low.limit = volume.shares.memory.low.next
        volume.shares.memory.tables.map(volume.shell.pointers, opened.window, 0, 0, volume.shell.tables)
        following.first_page = 512  # in another table
        monkeypatch.setattr(volume.shares, "reclaim", lambda _enough: pytest.fail("memory was to be released"))
    elif reason == "mapped too often":
        volume.files_state.mapped = MAPPED_BLOCKS - 1
    map_at(volume, start)
    assert list(following.users) == []
    assert opened.expected == start + PAGE


def test_bytes_that_another_span_has_taken_over_while_data_were_read_ahead_are_found_in_that_one(
    volume: Volume,
) -> None:
    """The span before ended within a page, and the answer came before the call returned (`FilePages.begin`)."""
    file = read_file(volume, 64 << 20, [(0, 2)])
    posted: list[int] = []

    def answered(call: RoutineCall) -> None:
        posted.append(call.eax)
        if len(posted) == 1:
            before = file.covering(PAGE)
            before.length = PAGE
            volume.put(file, PAGE, 1)

    (address, size, _), *_ = drive(volume.reading.map(volume.shell, 1, PAGE + 5, 1), ipc_post=answered)
    assert (address - volume.shell.files[1].window, size) == (PAGE + 5, PAGE - 5)


def test_nothing_is_read_ahead_for_which_data_in_use_would_have_to_go(volume: Volume) -> None:
    read_file(volume, 64 << 20, [(0, 1)])
    cache = volume.cache
    while cache.high.available >= cache.most or cache.unlocked >= cache.most:
        cache.high.allocate()
    map_at(volume, 0)
    assert volume.shell.files[1].ahead, "it reads in order"
    assert volume.files_state.counters.ahead == 0


def test_the_most_idle_span_is_unmapped_when_spans_are_mapped_as_often_as_allowed(volume: Volume) -> None:
    file = read_file(volume, 4 * PAGE, [(0, 1), (2 * PAGE, 1)])
    volume.fields["slot_waiters"] = 1
    map_at(volume, 0)
    volume.files_state.mapped = MAPPED_BLOCKS
    map_at(volume, 2 * PAGE)
    assert [span.position for span in file.spans] == [2 * PAGE]
    volume.put(file, 0, 1)
    file.covering(2 * PAGE).kept = 1  # a reader is about to use it
    volume.files_state.mapped = MAPPED_BLOCKS
    with refusal(ErrorCode.NO_MEMORY):
        map_at(volume, 0)


def test_nothing_is_mapped_of_a_file_whose_volume_is_gone(volume: Volume) -> None:
    file = read_file(volume, PAGE, [(0, 1)])
    file.error = ErrorCode.UNPLUGGED
    for position in (0, PAGE):  # also at its end: that there is nothing more is not known
        with refusal(ErrorCode.UNPLUGGED):
            map_at(volume, position)
    with refusal(ErrorCode.UNPLUGGED):
        drive(volume.reading.fault(volume.shell, volume.shell.files[1].window))
