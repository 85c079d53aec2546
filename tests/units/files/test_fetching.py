"""How file data are requested, on a plain guest: READs are posted, readers wait, and ask again, but not for ever."""

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.limits import SPANS_OF_FILE
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.errors import GivenUp, ServerAnswer, ServerShortage
from callgate.kernel.core.records import EndpointState
from callgate.kernel.file_data.fetching import SPAN_BYTES
from callgate.kernel.file_data.hunger import TRIES
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.spans import Span
from plain_files import PAGE, FileData, bring, sectors
from plain_guest import drive, refusal, returned


@pytest.fixture
def data() -> FileData:
    found = FileData()
    found.endpoint.start = 0  # sector n of the endpoint is sector n of the disk
    return found


class Server:
    """Posts READs and answers them: the file lies in one piece on the disk, from sector 800 on."""

    def __init__(self, data: FileData, *, most: int = 1 << 30) -> None:
        self.data = data
        self.most = most  # bytes in an answer
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
    assert server.obtain(file, 4 * PAGE, 1).number == 1  # it is in memory: no server is asked
    assert len(server.asked) == 2


def test_a_reader_waits_for_no_data_of_another_part_of_the_file_whose_pages_are_known(data: FileData) -> None:
    file = data.new_file(10 * PAGE)
    elsewhere = data.expect(file, 0, PAGE)
    server = Server(data)
    server.obtain(file, 5 * PAGE, 1)
    assert (server.asked, elsewhere.state) == ([(5 * PAGE, PAGE)], SpanState.WAITING)


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


def test_a_second_request_waits_for_the_first_data_which_tell_where_pages_begin(data: FileData) -> None:
    file = data.new_file(16 * PAGE, shift=None)
    server = Server(data)
    asked: list[RoutineCall] = []
    drive(data.fetching.post(file, 0, PAGE), ipc_post=asked.append)
    at_the_wait = []

    def block(_call: RoutineCall) -> None:
        at_the_wait.append([span.position for span in file.spans])
        server.ipc_post_and_wait(asked[0])

    found, _ = drive(data.fetching.obtain(file, 8 * PAGE, 1), block=block, ipc_post_and_wait=server.ipc_post_and_wait)
    assert found.position == 8 * PAGE
    assert at_the_wait == [[0]]


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


@pytest.mark.parametrize("told", ["what was put off", "of idle data", ""])
def test_a_reader_of_a_server_without_memory_asks_again_if_that_is_told_something(data: FileData, told: str) -> None:
    file = data.new_file(PAGE)
    if told == "what was put off":
        data.back.add_unlock(data.endpoint, 5)
    elif told:
        data.put(data.new_file(PAGE), 0, 1, request=3)
    asked = []

    def answer(call: RoutineCall) -> None:
        asked.append(call.eax)
        if len(asked) == 1:
            data.completion.fail(file, file.spans[0], ServerShortage(ErrorCode.NO_MEMORY))
        else:
            Server(data).ipc_post_and_wait(call)

    obtained = data.fetching.obtain(file, 0, 1)
    if told:
        drive(obtained, ipc_post_and_wait=answer)
    else:
        with refusal(ErrorCode.NO_MEMORY):
            drive(obtained, ipc_post_and_wait=answer)
    assert (len(asked), data.back.state.put_off) == (1 + bool(told), [])


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
        data.insert(file, span)
    with refusal(ErrorCode.NO_MEMORY):
        drive(data.fetching.post(file, 1 << 29, 1))
    spans[7].state = SpanState.READY
    other = data.new_file(PAGE)
    data.put(other, 0, 1).idle = spans[7].idle + 1
    drive(data.fetching.post(file, 1 << 29, 1))
    assert other.spans, "the room is to be made in this file"
    assert spans[7] not in file.spans
    assert len(file.spans) == SPANS_OF_FILE


def test_a_reader_that_has_waited_for_its_server_to_catch_up_looks_for_its_data_again(
    data: FileData, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data.new_file(PAGE)
    brought: list[Span] = []

    async def catch_up(_endpoint: EndpointState) -> bool:
        brought.append(data.put(file, 0, 1))
        return True

    monkeypatch.setattr(data.fetching.letting_go.releases, "catch_up", catch_up)
    found, calls = drive(data.fetching.obtain(file, 0, 1))
    assert (found, calls) == (brought[0], [])


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
        assert (file.spans[0].waiters, data.scheduler.signalled(data.thread)) == ([], True)

    assert drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=post)[0] is file.spans[0]
    assert (data.files_state.counters.requests, data.files_state.counters.waits) == (1, 1)


def test_a_reader_that_comes_back_before_its_data_waits_for_them_and_is_counted_once(data: FileData) -> None:
    """It was woken for another reason, or its server has died after the post and has not been swept."""
    file = data.new_file(PAGE)
    asked: list[RoutineCall] = []
    server = Server(data)

    def block(_call: RoutineCall) -> None:
        assert file.spans[0].waiters == [data.thread.selector]
        server.ipc_post_and_wait(asked[0])

    drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=asked.append, block=block)
    assert (len(asked), data.files_state.counters.waits) == (1, 1)


def test_a_reader_that_is_woken_again_and_again_is_once_among_the_waiters(data: FileData) -> None:
    file = data.new_file(PAGE)
    asked: list[RoutineCall] = []
    waiters: list[list[int]] = []

    def block(_call: RoutineCall) -> None:
        waiters.append(list(file.spans[0].waiters))
        if len(waiters) == 3:
            Server(data).ipc_post_and_wait(asked[0])

    drive(data.fetching.obtain(file, 0, 1), ipc_post_and_wait=asked.append, block=block)
    assert waiters == [[data.thread.selector]] * 3


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
