"""How answers to READs become pages: checked, put together, cut at failures; readers are woken; on a plain guest."""

import struct

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.message import ReplyType
from callgate.kernel.core.errors import DiskError, PolicyError, ServerAnswer, ServerFault, ServerShortage
from callgate.kernel.file_data.spans import Part
from callgate.kernel.memory.frames import OutOfMemory
from plain_files import HOLE, PAGE, FileData, bring, content, paint, sectors
from plain_guest import drive
from plain_ipc import DATA


@pytest.fixture
def data() -> FileData:
    found = FileData()
    found.endpoint.start = 0  # sector n of the endpoint is sector n of the disk
    return found


def test_whole_blocks_of_the_disk_become_pages_of_the_file_without_a_copy(data: FileData) -> None:
    file = data.new_file(3 * PAGE, shift=None)
    span = data.expect(file, 0, 3 * PAGE)
    bring(data, span, [sectors(80, 8), sectors(16, 8), sectors(88, 8)])
    assert [run.keys for run in data.runs] == [[(0x100, 2)], [(0x100, 10), (0x100, 11)]]  # in the order of the disk
    assert span.state is SpanState.WAITING
    data.end_runs()
    assert (span.state, span.whole, span.server_request) == (SpanState.READY, [True] * 3, 3)
    assert span.frames == [data.cache.frame((0x100, block)) for block in (10, 2, 11)]
    assert (data.files_state.counters.copied_pages, data.records.lists, data.lists.state.chain) == (0, {}, {})
    assert (data.lines, data.cache.state.ahead) == ([], {}), "nothing to report; reading ahead is for OPEN alone"


def test_a_span_whose_blocks_are_in_the_cache_is_ready_at_once_and_its_reader_woken(data: FileData) -> None:
    file = data.new_file(PAGE)
    bring(data, data.expect(file, 0, PAGE), [sectors(16, 8)])
    data.end_runs()
    other = data.new_file(PAGE)
    span = data.expect(other, 0, PAGE)
    thread = data.new_thread(data.shell)
    span.waiters = [thread.selector]
    bring(data, span, [sectors(16, 8)])
    assert (data.runs, span.state, data.ready()) == ([], SpanState.READY, [thread])


def test_blocks_that_another_request_reads_already_are_left_to_it_and_the_others_get_their_own_frames(
    data: FileData,
) -> None:
    first, second = (data.expect(data.new_file(3 * PAGE), 0, 3 * PAGE) for _ in range(2))
    bring(data, first, [sectors(16, 8), sectors(24, 8), sectors(32, 8)])
    bring(data, second, [sectors(24, 8), sectors(32, 8), sectors(40, 8)])  # each frame is compared (`FileData.read`)
    assert [run.keys for run in data.runs] == [[(0x100, 2), (0x100, 3), (0x100, 4)], [(0x100, 5)]]
    data.end_runs()
    assert second.frames == [data.cache.frame((0x100, block)) for block in (3, 4, 5)]
    assert [data.cache.state.blocks[0x100, block].locks for block in (2, 3, 4, 5)] == [1, 2, 2, 1]


def test_a_page_made_of_pieces_is_a_copy_with_zeros_for_holes_and_for_what_is_after_the_end(data: FileData) -> None:
    file = data.new_file(2300)
    span = data.expect(file, 0, 2300)
    bring(data, span, [sectors(17, 1), HOLE | 1 | 1 << 60, sectors(34, 2)])
    paint(data)
    data.end_runs()
    page = data.guest.ram.read(span.frames[0], PAGE)
    assert page == b"\3" * 512 + bytes(1024) + b"\5" * (2300 - 1536) + bytes(PAGE - 2300)
    assert (len(span.private), span.whole) == (1, [False])


def test_a_page_of_two_halves_of_blocks_is_a_copy_and_one_of_zeros_is_the_page_of_zeros(data: FileData) -> None:
    """Each begins a block, but has not all of it: the rest is a neighbour's (rule 7)."""
    file = data.new_file(3 * PAGE)
    span = data.expect(file, 0, 3 * PAGE)
    bring(data, span, [sectors(16, 4), sectors(40, 4), HOLE | 7 << 60, sectors(64, 8)])
    paint(data)
    data.end_runs()
    assert data.guest.ram.read(span.frames[0], PAGE) == b"\3" * 2048 + b"\6" * 2048
    assert span.frames[1] == data.memory.space.zeros != 0
    assert span.whole == [False, False, True]


def test_a_file_that_begins_within_a_block_is_shifted_so_that_later_blocks_are_its_pages(data: FileData) -> None:
    file = data.new_file(1024 + 2 * PAGE, shift=None)
    span = data.expect(file, 0, file.size)
    bring(data, span, [sectors(22, 2), sectors(24, 8), sectors(32, 8)])
    paint(data)
    data.end_runs()
    assert (file.shift, span.whole) == (6 * 512, [False, True, True])
    assert content(data, file, 0, 1024) == b"\3" * 1024
    assert data.guest.ram.read(span.frames[0], 6 * 512) == bytes(6 * 512)  # rule 7: no neighbour's data
    assert content(data, file, 1024, PAGE) == b"\4" * PAGE


def test_the_shift_is_that_of_the_first_piece_that_reaches_the_end_of_its_block(data: FileData) -> None:
    file = data.new_file(2048 + PAGE, shift=None)
    span = data.expect(file, 0, file.size)
    bring(data, span, [sectors(19, 1), sectors(29, 3), sectors(32, 8)])
    data.end_runs()
    assert (file.shift, span.whole) == (2048, [False, True])


def test_edges_are_mapped_and_not_copied_with_the_option_for_that(data: FileData) -> None:
    data.map_edges = True
    file = data.new_file(512)
    span = data.expect(file, 0, 512)
    bring(data, span, [sectors(16, 1)])
    data.end_runs()
    assert span.frames == [data.cache.frame((0x100, 2))]


@pytest.mark.parametrize(
    ("start", "covered", "entries"),
    [(0, 0, [sectors(16, 8)]), (PAGE, PAGE, [sectors(16, 8)]), (0, PAGE, []), (0, PAGE, [sectors(993, 8)])],
)
def test_an_answer_that_does_not_cover_what_was_asked_or_lies_elsewhere_is_refused(
    data: FileData, start: int, covered: int, entries: list[int]
) -> None:
    file = data.new_file(PAGE)
    span = data.expect(file, 0, PAGE)
    bring(data, span, entries, start=start, covered=covered)
    assert (span.state, type(span.error), file.spans) == (SpanState.FAILED, ServerFault, [])
    assert data.slots.block(data.endpoint)["bad_replies"] == 1
    assert data.lines[-1].startswith("d0p1: file data refused: ")
    assert (data.records.lists, data.noted()) == ({}, [(Operation.RELEASE, 3)])


def test_an_object_becomes_pages_that_lie_in_the_servers_memory(data: FileData) -> None:
    file = data.new_file(PAGE + 1)
    span = data.expect(file, 0, PAGE + 1)
    address = data.processes.allocate(data.endpoint.process, 2 * PAGE)
    slot, page = data.answered(span, [], start=0, covered=2 * PAGE, request=4, kind=ReplyType.OBJECT)
    struct.pack_into("<II", page, DATA, address, PAGE + 1)
    drive(data.slots.host_replied(slot))
    frames = [data.endpoint.process.pages[address + at] for at in (0, PAGE)]
    assert (span.state, span.frames[0], span.holds_low) == (SpanState.READY, frames[0], True)
    assert len(span.private) == 1  # the second page after the end of the file is not specified


def test_whole_pages_of_the_servers_memory_are_no_blocks_that_a_program_may_write_to(data: FileData) -> None:
    file = data.new_file(2 * PAGE)
    span = data.expect(file, 0, 2 * PAGE)
    address = data.processes.allocate(data.endpoint.process, 2 * PAGE)
    slot, page = data.answered(span, [], start=0, covered=2 * PAGE, request=4, kind=ReplyType.OBJECT)
    struct.pack_into("<II", page, DATA, address, 2 * PAGE)
    drive(data.slots.host_replied(slot))
    assert (span.state, span.private, span.whole) == (SpanState.READY, [], [False, False])


def test_a_bad_sector_ends_the_data_before_its_page_and_the_server_is_named(data: FileData) -> None:
    file = data.new_file(3 * PAGE)
    span = data.expect(file, 0, 3 * PAGE)
    bring(data, span, [sectors(16, 8), sectors(160, 8), sectors(24, 8)])
    bad = data.runs.pop()
    data.end_runs()
    data.runs = [bad]
    data.end_runs(DiskStatus.FAILED)
    assert (span.state, span.length, len(span.frames)) == (SpanState.READY, PAGE, 1)
    assert data.lines == ["d0p1: disk 256, sector 160: cannot be read"]
    assert data.cache.state.locked == 1  # no request would read a bad block again while it is locked


def test_blocks_that_failed_in_company_are_worth_asking_for_again(data: FileData) -> None:
    file = data.new_file(2 * PAGE)
    span = data.expect(file, 0, 2 * PAGE)
    bring(data, span, [sectors(16, 8), sectors(24, 8)])
    data.end_runs(DiskStatus.FAILED)
    assert (span.state, span.again, data.lines) == (SpanState.FAILED, True, [])


@pytest.mark.parametrize(
    ("carry", "said", "kind", "heard"),
    [
        (1, ErrorCode.IO_ERROR, ServerAnswer, ErrorCode.IO_ERROR),
        (1, ErrorCode.NO_MEMORY, ServerShortage, ErrorCode.NO_MEMORY),
        (1, ErrorCode.KILLED, ServerFault, ErrorCode.BAD_REPLY),
        (0, 0, ServerAnswer, ErrorCode.CORRUPT),
    ],
)
def test_an_answer_without_data_fails_the_span_with_the_servers_error(
    data: FileData, carry: int, said: int, kind: type[PolicyError], heard: ErrorCode
) -> None:
    span = data.expect(data.new_file(PAGE), 0, PAGE)
    slot, _ = data.answered(span, [], start=0, covered=0, kind=ReplyType.REGISTERS)
    data.message(slot).eflags, data.message(slot).eax = carry, said
    drive(data.slots.host_replied(slot))
    assert (span.state, type(span.error), span.error.code) == (SpanState.FAILED, kind, heard)


def test_a_span_of_a_dead_server_fails_with_the_reason(data: FileData) -> None:
    span = data.expect(data.new_file(PAGE), 0, PAGE)
    slot, _ = data.answered(span, [], start=0, covered=0)
    data.endpoint.error = ErrorCode.UNPLUGGED
    data.slots.fail_slot(data.endpoint, slot, ErrorCode.UNPLUGGED)
    data.answers.failed(data.endpoint, span.number)  # the token is no longer known
    assert (type(span.error), data.slots.tokens(data.endpoint)) == (DiskError, {})


def test_a_request_that_begins_within_a_page_takes_its_beginning_over_and_gives_it_back_if_it_fails(
    data: FileData,
) -> None:
    file = data.new_file(2 * PAGE)
    before = data.expect(file, 0, 1024)
    bring(data, before, [sectors(16, 2)])
    paint(data)
    data.end_runs()
    rest = data.expect(file, 1024, 2 * PAGE - 1024)
    pieces = [(1, 2, 6), (1, 0, 8)]
    assert data.pages.begin(file, rest, 1024, 7168, pieces)
    assert (rest.position, before in file.spans) == (0, False)
    assert rest.begun == Part(rest.private[0], 0, 1024)
    data.completion.fail(file, rest, DiskError(ErrorCode.IO_ERROR))
    (again,) = file.spans
    assert (again.position, again.length, again.stuck, again.state) == (0, 1024, True, SpanState.READY)
    assert content(data, file, 0, 1024) == b"\3" * 1024
    assert data.low.holders[again.private[0]] == 1


def test_an_answer_for_which_the_cache_has_no_room_is_taken_as_far_as_there_is_room(data: FileData) -> None:
    file = data.new_file(5 * PAGE)
    span = data.expect(file, 0, 5 * PAGE)
    room = data.cache.fitting(0x100, list(range(1 << 20)))
    data.cache.lock(0x100, list(range(1000, 1000 + room - 2)))
    bring(data, span, [sectors(80, 8), HOLE | 7 << 60, *(sectors(16 + 8 * at, 8) for at in range(3))])
    data.end_runs()
    assert (span.state, span.length) == (SpanState.READY, 3 * PAGE)  # two blocks, and a hole that takes none


def test_nothing_of_an_answer_is_taken_after_the_block_for_which_there_is_no_room(data: FileData) -> None:
    file = data.new_file(5 * PAGE)
    span = data.expect(file, 0, 5 * PAGE)
    room = data.cache.fitting(0x100, list(range(1 << 20)))
    data.cache.lock(0x100, list(range(1000, 1000 + room - 2)))
    bring(data, span, [sectors(80, 8), *(sectors(16 + 8 * at, 8) for at in range(3)), HOLE | 7 << 60])
    data.end_runs()
    assert (span.state, span.length) == (SpanState.READY, 2 * PAGE)  # the hole would lie two pages too early


def test_a_span_without_memory_for_its_data_fails_with_no_memory(data: FileData) -> None:
    file = data.new_file(1024)
    span = data.expect(file, 0, 1024)
    bring(data, span, [sectors(16, 2)])
    data.low.allocate_several(data.low.available - 64)
    data.end_runs()
    assert (span.state, type(span.error)) == (SpanState.FAILED, OutOfMemory)
