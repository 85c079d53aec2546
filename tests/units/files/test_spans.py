"""Records of spans in guest memory: found by the layout alone, given out lowest first, freed with their spans."""

import struct

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.limits import SPANS, SPANS_OF_FILE
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.file_data.spans import Span
from callgate.kernel.watching.snapshots.kept_records import RecordKeeper
from plain_files import PAGE, FileData
from plain_guest import drive, refusal

RECORD = struct.Struct("<IIQII")  # state, token, position, count, remaining; 32 bytes each
SPAN_PAGES = 0x400  # offset in the Endpoint


@pytest.fixture
def data() -> FileData:
    return FileData()


def pages(data: FileData) -> list[int]:
    """Return the linear addresses of the pages of the endpoint's array, from its block."""
    found = struct.unpack("<16I", data.guest.ram.read(data.endpoint.block + SPAN_PAGES, 64))
    return [page for page in found if page]


def record(data: FileData, handle: int) -> tuple[int, ...]:
    """Return state, token, position, count and remaining of a record, as a debugger reads them."""
    page = pages(data)[handle // 128]
    return RECORD.unpack(data.guest.ram.read(page - KERNEL_BASE + handle % 128 * 32, RECORD.size))


def test_what_policy_says_of_a_span_stands_in_its_record_and_what_stands_there_is_what_policy_reads(
    data: FileData,
) -> None:
    file = data.new_file(1 << 40)
    span = data.expect(file, 5 << 32, 3 * PAGE)
    assert record(data, span.handle) == (SpanState.WAITING, span.number, 5 << 32, 3 * PAGE, 0)
    span.position, span.length, span.state = (7 << 32) + 1, 9, SpanState.READY
    assert record(data, span.handle) == (SpanState.READY, span.number, (7 << 32) + 1, 9, 0)
    data.guest.ram.view(span.address - KERNEL_BASE, RECORD.size)[:] = RECORD.pack(3, 88, 6 << 33, 77, 5)
    assert (span.state, span.number, span.position, span.length) == (SpanState.FAILED, 88, 6 << 33, 77)
    assert (span.end, span.remaining) == ((6 << 33) + 77, 5)


def test_handles_are_given_lowest_first_and_one_that_is_free_again_before_a_new_one(data: FileData) -> None:
    file = data.new_file(1 << 30)
    spans = [data.put(file, index * PAGE, 1) for index in range(4)]
    assert [span.handle for span in spans] == [0, 1, 2, 3]
    data.letting_go.release(file, spans[2])
    data.letting_go.release(file, spans[0])
    assert record(data, 2) == record(data, 0) == (0, 0, 0, 0, 0)
    assert [data.put(file, index * PAGE, 1).handle for index in (0, 2)] == [0, 2]
    assert [record(data, handle)[2] for handle in range(4)] == [0, PAGE, 2 * PAGE, 3 * PAGE]


def test_a_span_that_has_gone_says_what_it_said_and_nothing_that_happens_to_the_next_one(data: FileData) -> None:
    file = data.new_file(1 << 30)
    gone = data.expect(file, 4 * PAGE, PAGE)
    data.completion.fail(file, gone, ErrorCode.IO_ERROR)
    other = data.expect(file, 8 * PAGE, PAGE)
    assert (other.handle, gone.position, gone.state) == (0, 4 * PAGE, SpanState.FAILED)
    gone.state = SpanState.READY
    assert other.state is SpanState.WAITING


def test_a_span_that_has_gone_with_its_server_can_be_dropped_again(data: FileData) -> None:
    file = data.new_file(1 << 30)
    span = data.expect(file, 4 * PAGE, PAGE)
    data.completion.fail(file, span, ErrorCode.SERVER_DIED)
    free = list(data.endpoint.free_spans)
    data.completion.fail(file, span, ErrorCode.UNPLUGGED)
    assert (data.endpoint.free_spans, span.position) == (free, 4 * PAGE)


def test_the_array_has_room_for_every_span_there_may_be_and_goes_with_the_last_file(data: FileData) -> None:
    used = data.low.used
    spans: list[Span] = []
    for _ in range(-(-SPANS // SPANS_OF_FILE)):
        file = data.new_file(1 << 30)
        for at in range(min(SPANS_OF_FILE, SPANS - len(spans))):
            spans.append(Span(len(spans) + 1, at * PAGE, PAGE, SpanState.READY))
            data.insert(file, spans[-1])
    assert (len(pages(data)), [span.handle for span in spans]) == (16, list(range(SPANS)))
    for file in list(data.files_state.objects.values()):
        data.letting_go.close_object(file)
    assert (pages(data), data.endpoint.free_spans, data.low.used) == ([], [], used)


def test_without_memory_for_the_array_a_read_is_refused_and_leaves_nothing(data: FileData) -> None:
    file = data.new_file(PAGE)
    data.low.allocate_several(data.low.available - 64)
    with refusal(ErrorCode.NO_MEMORY):
        drive(data.fetching.post(file, 0, 1))
    assert (file.spans, data.files_state.waiting, data.records.lists, pages(data)) == ([], {}, {}, [])


def test_a_snapshot_keeps_no_copy_of_a_record_and_brings_a_span_back_that_reads_guest_memory(data: FileData) -> None:
    span = data.expect(data.new_file(1 << 30), PAGE, PAGE)
    number, keeper = span.number, RecordKeeper([span])
    kept = keeper.keep()
    span.waiters.append(8)
    span.words = memoryview(bytearray(64)).cast("I")
    assert keeper.give_back(kept) == [span]
    data.span_records.bind([span])
    assert (span.handle, span.number, span.position, span.waiters) == (0, number, PAGE, [])
    span.position = 3 * PAGE
    keeper.give_back(kept)
    assert span.position == 3 * PAGE
