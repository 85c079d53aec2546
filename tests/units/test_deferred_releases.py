"""Deferred releases alone: sent to servers one at a time, and never waited for."""

import pytest
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import BATCH_ENTRIES, HELD_OF_SERVER
from callgate.kernel.abi.message import TOKEN_RELEASES, Message
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.ipc.deferred_releases import LAST_WORDS, DeferredReleases, DeferredReleasesState
from plain_guest import drive, refusal
from plain_ipc import Ipc
from plain_releases import ReleasesRig


@pytest.fixture
def rig() -> ReleasesRig:
    return ReleasesRig()


def test_deferred_releases_are_sent_one_at_a_time_in_order(rig: ReleasesRig) -> None:
    for operation, number in ((Operation.RELEASE, 5), (Operation.RELEASE, 6), (Operation.CLOSE, 2)):
        rig.back.add(rig.endpoint, operation, number)
    said = []
    while posted := rig.post():
        said += posted
        assert rig.post() == []  # the next one waits for the answer
        rig.answer()
    assert said == [(Operation.RELEASE, 5, 5), (Operation.RELEASE, 6, 6), (Operation.CLOSE, 2, 2)]
    assert (rig.endpoint.held, rig.back.idle) == (7, True)


def test_a_server_that_does_not_answer_holds_one_slot_and_others_are_still_told(rig: ReleasesRig) -> None:
    other = rig.create("d1")
    for number in range(40):
        rig.back.add(rig.endpoint, Operation.RELEASE, number)
        rig.back.add(other, Operation.RELEASE, number)
    assert (len(rig.post()), rig.messages) == (2 * BATCH_ENTRIES, 2)
    assert rig.slots.block(rig.endpoint)["unused"] == 0xFFFF_FFFE
    assert (len(rig.queue.entries), rig.back.idle) == (40 - BATCH_ENTRIES, False)


def test_releases_that_have_gathered_are_sent_as_a_batch(rig: ReleasesRig) -> None:
    wanted = [(Operation.RELEASE, number, number) for number in range(5)] + [(Operation.CLOSE, 9, 9)]
    rig.back.add(rig.endpoint, Operation.UNLOCK_DIRECTORY, 1)
    assert (rig.post(), rig.messages) == ([(Operation.UNLOCK_DIRECTORY, 1, 1)], 1)
    for operation, number, _ in wanted:
        rig.back.add(rig.endpoint, operation, number)
    rig.answer()
    assert rig.endpoint.held == 9
    assert (rig.post(), rig.messages) == (wanted, 1)
    rig.answer(failed={2: ErrorCode.NOT_FOUND, 5: ErrorCode.IO_ERROR})
    assert (rig.endpoint.held, rig.back.idle) == (3, True)
    assert rig.lines == [f"d0p1: what was given back: {name}" for name in ("NOT_FOUND", "IO_ERROR")]


def test_a_server_that_knows_no_batches_is_told_one_by_one(rig: ReleasesRig) -> None:
    rig.add_closes(3)
    assert len(rig.post()) == 3
    rig.answer(error=ErrorCode.BAD_CALL)
    assert (rig.endpoint.held, rig.lines) == (10, []), "nothing has been told yet"
    for number in range(3):
        assert (rig.post(), rig.messages) == ([(Operation.CLOSE, number, number)], 1)
        rig.answer()
    rig.back.add(rig.endpoint, Operation.CLOSE, 4)
    rig.back.add(rig.endpoint, Operation.CLOSE, 5)
    assert rig.post() == [(Operation.CLOSE, 4, 4)], "it is not asked again"
    assert (rig.endpoint.held, rig.back.idle) == (7, False)


def test_a_release_by_itself_that_the_server_does_not_know_is_not_repeated(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.RELEASE, 1)
    rig.post()
    rig.answer(error=ErrorCode.BAD_CALL)
    assert (rig.endpoint.held, rig.post(), rig.queue.one_by_one) == (9, [], False)
    assert rig.lines == ["d0p1: what was given back: NOT_SUPPORTED"]


def test_what_lies_in_the_page_of_a_release_by_itself_says_nothing(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    rig.post()
    rig.answer(failed={0: ErrorCode.IO_ERROR})
    assert (rig.endpoint.held, rig.lines) == (9, [])


@pytest.mark.parametrize(("failed", "code"), [({}, ErrorCode.NO_MEMORY), ({1: ErrorCode.BAD_CALL}, ErrorCode.OK)])
def test_a_batch_of_releases_that_fails_is_not_repeated(
    rig: ReleasesRig, failed: dict[int, ErrorCode], code: ErrorCode
) -> None:
    """A CLOSE that is told twice could close a file that has been given the number since."""
    rig.add_closes(3)
    rig.post()
    rig.answer(error=code, failed=failed)
    assert (rig.endpoint.held, rig.post(), rig.queue.one_by_one) == (7, [], False)
    assert rig.lines == [f"d0p1: what was given back: {'NOT_SUPPORTED' if failed else 'NO_MEMORY'}"]


def test_a_server_that_dies_with_a_batch_of_releases_is_told_nothing_more(rig: ReleasesRig) -> None:
    rig.add_closes(40)
    rig.post()
    rig.endpoint.dead = True
    rig.back.endpoint_died(rig.endpoint, ErrorCode.SERVER_DIED)
    assert (list(rig.queue.entries), rig.endpoint.held, rig.queue.busy) == ([], 0, True)
    rig.back.failed(rig.endpoint, TOKEN_RELEASES)
    assert (rig.post(), rig.queue.busy, rig.endpoint.held) == ([], False, 0)


def test_a_deferred_release_waits_for_a_slot_without_blocking_a_thread(rig: ReleasesRig) -> None:
    rig.take(32)
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    assert rig.post() == []
    rig.slots.host_slot_give(4)
    assert (rig.scheduler.state_of(rig.poster), rig.post()) == (ThreadState.READY, [(Operation.CLOSE, 1, 1)])


def test_a_server_that_holds_4096_things_is_sent_no_new_request(rig: ReleasesRig) -> None:
    rig.endpoint.held = HELD_OF_SERVER - 1
    rig.back.check_room(rig.endpoint)
    rig.back.taken(rig.endpoint)
    with refusal(ErrorCode.NO_RESOURCES):
        rig.back.check_room(rig.endpoint)
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    with refusal(ErrorCode.NO_RESOURCES):  # the release is noted, but the server has not answered it
        rig.back.check_room(rig.endpoint)
    rig.post()
    rig.answer()
    rig.back.check_room(rig.endpoint)


def test_the_reply_to_a_deferred_release_is_ignored_and_an_error_is_logged(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    rig.post()
    rig.answer(error=ErrorCode.NOT_FOUND)
    assert rig.lines == ["d0p1: what was given back: NOT_FOUND"]
    assert (rig.endpoint.held, rig.slots.tokens(rig.endpoint)) == (9, {})


def test_a_dead_server_is_told_nothing_and_a_slot_that_was_on_its_way_comes_back(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    rig.back.add(rig.endpoint, Operation.CLOSE, 2)
    rig.endpoint.dead = True
    rig.back.endpoint_died(rig.endpoint, ErrorCode.SERVER_DIED)
    rig.back.add(rig.endpoint, Operation.CLOSE, 3)
    assert rig.post() == []
    assert (rig.queue.busy, list(rig.queue.entries), rig.endpoint.held) == (False, [], 0)
    assert rig.slots.block(rig.endpoint)["free"] == 1


def test_a_thread_that_waits_until_a_server_has_been_told_is_woken_then(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.RELEASE, 5)
    rig.post()
    waits = []

    def block(call: RoutineCall) -> None:
        waits.append((call.eax, list(rig.queue.waiters)))
        rig.answer()

    drive(rig.back.said(rig.endpoint), block=block)
    assert waits == [(WaitReason.FILE, [rig.thread.selector])]
    assert (rig.scheduler.signalled(rig.thread), rig.queue.waiters) == (True, [])
    _, calls = drive(rig.back.said(rig.endpoint))
    assert calls == []


def test_a_thread_that_is_woken_before_a_server_has_been_told_waits_once_in_the_queue(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.RELEASE, 5)
    rig.post()
    waits = []

    def block(_call: RoutineCall) -> None:
        waits.append(list(rig.queue.waiters))
        if len(waits) == 3:
            rig.answer()

    drive(rig.back.said(rig.endpoint), block=block)
    assert waits == [[rig.thread.selector]] * 3
    assert rig.queue.waiters == []


def test_a_killed_thread_does_not_wait_for_deferred_releases(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.RELEASE, 5)
    rig.threads.kill(rig.thread)
    with refusal(ErrorCode.KILLED):
        drive(rig.back.said(rig.endpoint))
    assert rig.queue.waiters == []


def test_the_machine_stops_when_servers_have_been_told_or_a_millisecond_later(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    rig.back.end()
    assert rig.stops == 0
    rig.post()
    rig.now(LAST_WORDS - 1)
    rig.post()
    assert rig.stops == 0
    rig.now(LAST_WORDS)
    rig.scheduler.host_tick(0)
    assert rig.scheduler.state_of(rig.poster) == ThreadState.READY
    rig.post()
    assert rig.stops == 1


def test_the_machine_stops_as_soon_as_the_last_server_has_answered(rig: ReleasesRig) -> None:
    rig.back.add(rig.endpoint, Operation.CLOSE, 1)
    rig.back.end()
    rig.post()
    rig.answer()
    assert rig.scheduler.state_of(rig.poster) == ThreadState.READY
    rig.post()
    assert rig.stops == 1


def test_threads_that_wait_for_a_server_to_catch_up_are_woken_when_it_has(rig: ReleasesRig) -> None:
    rig.back.limit = 4
    rig.queue.one_by_one = True
    rig.add_closes(3)
    rig.post()
    waits = []

    def block(call: RoutineCall) -> None:
        waits.append((call.eax, list(rig.queue.behind)))
        rig.answer()
        assert rig.queue.behind == [rig.thread.selector], "two are still to be sent"
        rig.post()
        rig.answer()
        assert (rig.scheduler.signalled(rig.thread), rig.queue.behind) == (True, [])

    assert drive(rig.back.catch_up(rig.endpoint), block=block)[0]
    assert waits == [(WaitReason.FILE, [rig.thread.selector])]


def test_without_deferred_releases_the_machine_stops_at_once(rig: ReleasesRig) -> None:
    rig.back.end()
    assert rig.stops == 1


def test_releases_noted_before_the_thread_exists_are_sent_once_it_does() -> None:
    ipc = Ipc()
    back = DeferredReleases(DeferredReleasesState(), ipc.guest, ipc.threads, ipc.slots, ipc.log, lambda: None)
    ipc.posted.granted = back.granted
    back.add(ipc.endpoint, Operation.CLOSE, 1)
    assert not ipc.endpoint.releases.busy
    back.start()
    assert back.state.due == [ipc.endpoint]


@pytest.mark.parametrize(
    ("operation", "carry", "noted"),
    [
        (Operation.OPEN, 0, [(Operation.CLOSE, 11)]),
        (Operation.LOCK_DIRECTORY, 0, [(Operation.UNLOCK_DIRECTORY, 22)]),
        (Operation.OPEN, 1, []),
        (Operation.VOLUME, 0, []),
        (Operation.READ, 0, []),
    ],
)
def test_resources_in_a_reply_without_a_client_are_released(
    rig: ReleasesRig, operation: Operation, carry: int, noted: list[tuple[Operation, int]]
) -> None:
    page = memoryview(bytearray(4096))
    message = Message.from_buffer(page)
    message.operation, message.eax, message.edx, message.eflags = operation, 11, 22, carry
    rig.back.unclaimed(rig.endpoint, page)
    assert list(rig.queue.entries) == noted
    assert rig.endpoint.held == 10 + len(noted)  # each is counted until the server has answered


# A CLOSE that is put off.


@pytest.fixture
def closing(rig: ReleasesRig) -> ReleasesRig:
    """A server that closes files with OPEN, and one CLOSE for it."""
    return rig.put_off_a_close()


def test_an_open_takes_the_close_along_that_was_put_off_and_only_once(closing: ReleasesRig) -> None:
    assert [closing.back.take_along(closing.endpoint) for _ in range(2)] == [5, 0]
    assert (closing.endpoint.held, closing.back.idle, closing.post()) == (9, True, [])


def test_a_close_whose_open_was_not_sent_is_sent_by_itself(closing: ReleasesRig) -> None:
    closing.back.put_back(closing.endpoint, closing.back.take_along(closing.endpoint))
    assert (closing.endpoint.held, closing.post()) == (10, [(Operation.CLOSE, 5, 5)])
    closing.back.put_back(closing.endpoint, 0)
    assert closing.endpoint.held == 10


def test_a_second_release_and_an_idle_cpu_and_the_end_send_a_close_that_was_put_off(rig: ReleasesRig) -> None:
    rig.endpoint.closes_at_open = True
    for send in (
        lambda: rig.back.add(rig.endpoint, Operation.RELEASE, 1),
        lambda: rig.back.add_close(rig.endpoint, 1),
        rig.back.send_put_off,
        rig.back.end,
    ):
        rig.back.add_close(rig.endpoint, 9)
        send()
        assert rig.back.state.put_off == []
        said = []
        while posted := rig.post():
            said += posted
            rig.answer()
        assert said[0] == (Operation.CLOSE, 9, 9)


def test_a_close_waits_for_the_answer_to_a_release_and_goes_with_no_open_before_it(rig: ReleasesRig) -> None:
    """Two threads of the server could take a posted RELEASE of the file and an OPEN that closes it in either order."""
    rig.endpoint.closes_at_open = True
    rig.back.add(rig.endpoint, Operation.RELEASE, 3)
    assert rig.post() == [(Operation.RELEASE, 3, 3)]
    rig.back.add_close(rig.endpoint, 5)
    assert (rig.back.state.put_off, rig.back.take_along(rig.endpoint), rig.post()) == ([], 0, [])
    rig.answer()
    assert rig.post() == [(Operation.CLOSE, 5, 5)]


def test_nothing_is_put_off_for_a_server_that_does_not_close_with_open_nor_at_the_end(rig: ReleasesRig) -> None:
    rig.back.add_close(rig.endpoint, 5)
    assert (rig.queue.busy, rig.back.state.put_off) == (True, [])
    rig.endpoint.closes_at_open = True
    rig.post()
    rig.answer()
    rig.back.state.ending = True
    rig.back.add_close(rig.endpoint, 6)
    assert rig.back.state.put_off == []


def test_a_close_that_is_put_off_goes_with_its_server(closing: ReleasesRig) -> None:
    closing.endpoint.dead = True
    closing.back.endpoint_died(closing.endpoint, ErrorCode.SERVER_DIED)
    assert (closing.back.state.put_off, closing.back.take_along(closing.endpoint)) == ([], 0)
    closing.back.put_back(closing.endpoint, 5)
    closing.back.add_close(closing.endpoint, 6)
    assert (list(closing.queue.entries), closing.back.state.put_off) == ([], [])
    assert closing.endpoint.held == 0, "a dead server holds nothing"
