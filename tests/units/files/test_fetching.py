"""How file data come: requests posted, answers checked, pages put together, readers woken, on a plain guest."""

import struct

import pytest
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import SPANS_OF_FILE
from callgate.kernel.abi.message import ReplyType
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.errors import DiskError, GivenUp, PolicyError, ServerAnswer, ServerFault, ServerShortage
from callgate.kernel.file_data.fetching import SPAN_BYTES
from callgate.kernel.file_data.hunger import TRIES
from callgate.kernel.file_data.objects import FileObject, Part, Span, SpanState
from callgate.kernel.memory.frames import OutOfMemory
from plain_files import PAGE, FileData
from plain_guest import drive, refusal, returned
from plain_ipc import DATA

HOLE = 1 << 63


def sectors(first: int, count: int) -> int:
    """Return an entry of a sectors reply."""
    return first | count - 1 << 60


@pytest.fixture
def data() -> FileData:
    found = FileData()
    found.endpoint.start = 0  # sector n of the endpoint is sector n of the disk
    return found


def bring(data: FileData, span: Span, entries: list[int], *, start: int = 0, covered: int | None = None) -> None:
    """Have a server answer the READ of a span."""
    total = sum((entry >> 60 & 7) + 1 for entry in entries) * 512
    slot, _ = data.answered(span, entries, start=start, covered=total if covered is None else covered, request=3)
    data.run(data.thread)
    drive(data.slots.host_replied(slot), sort_sectors=data.sort_sectors)


def content(data: FileData, file: FileObject, position: int, size: int) -> bytes:
    """Return bytes of a file out of the pages of the span that they lie in."""
    span = file.covering(position)
    assert span is not None
    within = (position + (file.shift or 0)) % PAGE
    return data.guest.ram.read(span.frames[file.page_of(position) - span.first_page] + within, size)


def paint(data: FileData) -> None:
    """Write n + 1 into each block n of the cache, and garbage into memory that is free."""
    data.guest.ram.view(data.low.next, 4 * PAGE)[:] = b"\xff" * 4 * PAGE  # the next frames of low memory
    for (_, number), block in data.cache.state.blocks.items():
        data.guest.ram.write(block.frame, bytes([number + 1]) * PAGE)


# Answers, pages, completion.


def test_whole_blocks_of_the_disk_become_pages_of_the_file_without_a_copy(data: FileData) -> None:
    file = data.new_file(3 * PAGE, shift=None)
    span = data.expect(file, 0, 3 * PAGE)
    bring(data, span, [sectors(80, 8), sectors(16, 8), sectors(88, 8)])
    assert [run.keys for run in data.runs] == [[(0x100, 2)], [(0x100, 10), (0x100, 11)]]  # in the order of the disk
    assert span.state is SpanState.WAITING
    data.end_runs()
    assert (span.state, span.whole, span.server_request) == (SpanState.READY, [True] * 3, 3)
    assert span.frames == [data.cache.frame((0x100, block)) for block in (10, 2, 11)]
    assert (data.files_state.counters.copied_pages, data.records.lists, data.lists.state.chain) == (0, {}, [])


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


def test_a_page_made_of_pieces_is_a_copy_with_zeros_for_holes_and_for_what_is_after_the_end(data: FileData) -> None:
    file = data.new_file(2300)
    span = data.expect(file, 0, 2300)
    bring(data, span, [sectors(17, 1), HOLE | 1 | 1 << 60, sectors(34, 2)])
    paint(data)
    data.end_runs()
    page = data.guest.ram.read(span.frames[0], PAGE)
    assert page == b"\3" * 512 + bytes(1024) + b"\5" * (2300 - 1536) + bytes(PAGE - 2300)
    assert (len(span.private), span.whole) == (1, [False])


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
    assert len(span.private) == 1  # what the second page holds behind the end of the file is nobody's business


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
    assert data.cache.state.locked == 1  # nobody would read a bad block again while it is locked


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
    data.answers.failed(data.endpoint, span.number)  # known no more
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


def test_a_span_without_memory_for_its_data_fails_with_no_memory(data: FileData) -> None:
    file = data.new_file(1024)
    span = data.expect(file, 0, 1024)
    bring(data, span, [sectors(16, 2)])
    data.low.allocate_several(data.low.available - 64)
    data.end_runs()
    assert (span.state, type(span.error)) == (SpanState.FAILED, OutOfMemory)


# Fetching.


class Server:
    """Posts READs and answers them: the file lies in one piece on the disk, from sector 800 on."""

    def __init__(self, data: FileData, *, most: int = 1 << 30) -> None:
        self.data = data
        self.most = most  # bytes that an answer brings
        self.asked: list[tuple[int, int]] = []

    def ipc_post_and_wait(self, call: RoutineCall) -> None:
        number = self.data.threads.block(self.data.thread)["request_token"]
        span = self.data.files_state.waiting[number][1]
        start, length = call.eax, call.ecx
        self.asked.append((start, length))
        count = -(-min(length, self.most) // 512)
        entries = [sectors(800 + start // 512 + at, min(8, count - at)) for at in range(0, count, 8)]
        bring(self.data, span, entries, start=start)
        self.data.end_runs()

    def obtain(self, file: FileObject, position: int, wanted: int) -> Span:
        obtained = self.data.fetching.obtain(file, position, wanted)
        found, _ = drive(obtained, ipc_post_and_wait=self.ipc_post_and_wait)
        assert isinstance(found, Span)
        return found


def test_a_request_asks_for_whole_pages_up_to_the_next_span_in_memory(data: FileData) -> None:
    file = data.new_file(10 * PAGE)
    data.put(file, 4 * PAGE, 1)
    server = Server(data)
    span = server.obtain(file, PAGE + 5, 1)
    assert (server.asked, span.position, span.end) == ([(PAGE, PAGE)], PAGE, 2 * PAGE)
    server.obtain(file, 3 * PAGE, 100 * PAGE)
    assert server.asked[1:] == [(3 * PAGE, PAGE)]
    assert server.obtain(file, 4 * PAGE, 1).number == 1  # it is there: nobody is asked
    assert len(server.asked) == 2


def test_a_request_is_limited_so_that_two_of_them_fit_in_the_cache(data: FileData) -> None:
    file = data.new_file(10 * SPAN_BYTES)
    span = drive(data.fetching.post(file, 0, 10 * SPAN_BYTES))[0]
    assert span.length == data.cache.most * PAGE < SPAN_BYTES


def test_a_short_answer_within_a_page_is_completed_before_it_is_shown(data: FileData) -> None:
    file = data.new_file(2 * PAGE)
    server = Server(data, most=1024)
    span = server.obtain(file, 0, PAGE)
    assert server.asked == [(0, PAGE), (1024, 3072), (2048, 2048), (3072, 1024)]
    assert (span.position, span.end) == (0, PAGE)


def test_readers_of_one_range_share_a_request_and_wait_for_it(data: FileData) -> None:
    file = data.new_file(PAGE)
    span = data.expect(file, 0, PAGE)

    def block(call: RoutineCall) -> None:
        assert (call.eax, span.waiters, span.kept) == (WaitReason.FILE, [data.thread.selector], 1)
        bring(data, span, [sectors(16, 8)])
        data.end_runs()

    assert drive(data.fetching.obtain(file, 0, 1), block=block)[0] is span
    assert (span.kept, data.files_state.counters.waits) == (0, 1)


def test_a_servers_error_reaches_its_reader_and_another_reader_asks_again(data: FileData) -> None:
    file = data.new_file(PAGE)
    errors = [GivenUp(ErrorCode.KILLED), GivenUp(ErrorCode.INTERRUPTED)] * TRIES
    errors.append(ServerAnswer(ErrorCode.IO_ERROR))
    asked = []

    def fail(call: RoutineCall) -> None:
        asked.append(call.eax)
        data.completion.fail(file, file.spans[0], errors.pop(0))

    with refusal(ErrorCode.IO_ERROR):
        drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=fail)
    assert len(asked) == 2 * TRIES + 1


def test_a_server_that_never_returns_the_wanted_data_is_asked_100_times(data: FileData) -> None:
    file = data.new_file(PAGE)
    asked = []

    def bring_nothing(call: RoutineCall) -> None:
        asked.append(call.eax)
        data.completion.nothing_left(file, file.spans[0])

    with refusal(ErrorCode.BAD_REPLY):
        drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=bring_nothing)
    assert len(asked) == TRIES


def test_the_spans_of_a_file_are_limited_and_the_most_idle_one_is_released_for_another(data: FileData) -> None:
    file = data.new_file(1 << 30)
    spans = [Span(1000 + index, index * PAGE, PAGE) for index in range(SPANS_OF_FILE)]
    for span in spans:
        data.files_state.insert(file, span)
    with refusal(ErrorCode.NO_MEMORY):
        drive(data.fetching.post(file, 1 << 29, 1))
    spans[7].state = SpanState.READY
    drive(data.fetching.post(file, 1 << 29, 1))
    assert spans[7] not in file.spans
    assert len(file.spans) == SPANS_OF_FILE


def test_a_request_that_cannot_be_posted_leaves_nothing(data: FileData) -> None:
    file = data.new_file(PAGE)
    with refusal(ErrorCode.SERVER_DIED):
        drive(
            data.fetching.post(file, 0, 1),
            ipc_post=lambda call: returned(call, failed=True, eax=ErrorCode.SERVER_DIED),
        )
    assert (file.spans, data.files_state.waiting, data.records.lists) == ([], {}, {})
    assert (data.files_state.counters.requests, data.files_state.counters.ahead) == (0, 0)


def test_a_reader_is_among_the_waiters_of_its_span_before_the_read_is_posted(data: FileData) -> None:
    """The answer may come before the routine that posts it has blocked: the wake-up must find the reader."""
    file = data.new_file(PAGE)
    server = Server(data)

    def post(call: RoutineCall) -> None:
        assert file.spans[0].waiters == [data.thread.selector]
        server.ipc_post_and_wait(call)
        assert (file.spans[0].waiters, data.thread.signal) == ([], True)

    assert drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=post)[0] is file.spans[0]
    assert (data.files_state.counters.requests, data.files_state.counters.waits) == (1, 1)


def test_a_reader_that_comes_back_before_its_data_waits_for_them_and_is_counted_once(data: FileData) -> None:
    """It was woken for something else, or its server has died after the post and has not been swept."""
    file = data.new_file(PAGE)
    asked: list[RoutineCall] = []
    server = Server(data)

    def block(_call: RoutineCall) -> None:
        assert file.spans[0].waiters == [data.thread.selector]
        server.ipc_post_and_wait(asked[0])

    drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=asked.append, block=block)
    assert (len(asked), data.files_state.counters.waits) == (1, 1)


@pytest.mark.parametrize("state", ["dead", "closed", "killed"])
def test_nothing_is_read_of_a_file_that_is_gone_or_for_a_killed_thread(data: FileData, state: str) -> None:
    file = data.new_file(PAGE)
    codes = {"dead": ErrorCode.UNPLUGGED, "closed": ErrorCode.BAD_HANDLE, "killed": ErrorCode.KILLED}
    file.error = ErrorCode.UNPLUGGED if state == "dead" else ErrorCode.OK
    file.opens = 0 if state == "closed" else 1
    data.thread.killed = state == "killed"
    with refusal(codes[state]):
        drive(data.fetching.obtain(file, 0, 1))


def test_reading_ahead_does_not_wait_for_a_slot(data: FileData) -> None:
    file = data.new_file(PAGE)
    assert data.fetching.room_to_post(file)
    data.fields["slot_waiters"] = 1
    assert not data.fetching.room_to_post(file)
    data.fields["slot_waiters"] = 0
    data.fields["unused"] = 0
    assert not data.fetching.room_to_post(file)
    data.fields["free"] = 4
    data.endpoint.dead = True
    assert not data.fetching.room_to_post(file)
