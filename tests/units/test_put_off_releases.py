"""Deferred releases that are put off: UNLOCKs until a batch of them has gathered, or the CPU idles."""

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import BATCH_ENTRIES, HELD_OF_SERVER
from plain_releases import ReleasesRig


@pytest.fixture
def rig() -> ReleasesRig:
    return ReleasesRig()


@pytest.fixture
def closing(rig: ReleasesRig) -> ReleasesRig:
    """A server that closes files with OPEN, and one CLOSE for it."""
    return rig.put_off_a_close()


def test_unlocks_are_put_off_until_a_batch_of_them_has_gathered(rig: ReleasesRig) -> None:
    for number in range(BATCH_ENTRIES - 1):
        rig.back.add_unlock(rig.endpoint, number)
    assert (rig.queue.busy, rig.back.state.put_off, rig.post()) == (False, [rig.endpoint], [])
    rig.back.add_unlock(rig.endpoint, 99)
    assert (rig.queue.busy, rig.back.state.put_off) == (True, [])
    numbers = [*range(BATCH_ENTRIES - 1), 99]
    assert (rig.post(), rig.messages) == ([(Operation.UNLOCK_DIRECTORY, number, number) for number in numbers], 1)
    rig.back.add_unlock(rig.endpoint, 100)
    assert (list(rig.queue.entries), rig.back.state.put_off) == ([(Operation.UNLOCK_DIRECTORY, 100)], [])
    rig.answer()
    assert rig.post() == [(Operation.UNLOCK_DIRECTORY, 100, 100)], "it was added while the server had the others"


def test_unlocks_that_were_put_off_go_with_what_is_sent_at_once_and_before_it(rig: ReleasesRig) -> None:
    rig.back.add_unlock(rig.endpoint, 1)
    rig.back.add_unlock(rig.endpoint, 2)
    rig.back.add(rig.endpoint, Operation.CLOSE, 3)
    assert rig.back.state.put_off == []
    assert [(operation, number) for operation, number, _ in rig.post()] == [
        (Operation.UNLOCK_DIRECTORY, 1),
        (Operation.UNLOCK_DIRECTORY, 2),
        (Operation.CLOSE, 3),
    ]


def test_a_cpu_that_idles_sends_unlocks_unless_a_disk_works_and_closes_always(closing: ReleasesRig) -> None:
    other = closing.create("d1")
    closing.back.add_unlock(other, 1)
    closing.back.send_put_off(disk_works=True)
    assert closing.back.state.put_off == [other]
    assert closing.post() == [(Operation.CLOSE, 5, 5)]
    closing.back.send_put_off()
    assert closing.back.state.put_off == []
    assert closing.post() == [(Operation.UNLOCK_DIRECTORY, 1, 1)]


def test_an_open_carries_no_unlock(rig: ReleasesRig) -> None:
    rig.back.add_unlock(rig.endpoint, 1)
    assert rig.back.take_along(rig.endpoint) == 0
    assert list(rig.queue.entries) == [(Operation.UNLOCK_DIRECTORY, 1)]


@pytest.mark.parametrize("why", ["a server that knows no batches", "one that holds much", "the end", "a close"])
def test_an_unlock_is_sent_at_once_where_to_wait_for_more_may_harm(request: pytest.FixtureRequest, why: str) -> None:
    made: ReleasesRig = request.getfixturevalue("closing" if why == "a close" else "rig")
    made.queue.one_by_one = why == "a server that knows no batches"
    made.back.state.ending = why == "the end"
    if why == "one that holds much":
        made.endpoint.held = HELD_OF_SERVER // 2
    made.back.add_unlock(made.endpoint, 1)
    assert (made.queue.busy, made.back.state.put_off) == (True, [])


def test_an_unlock_for_a_dead_server_is_dropped_and_what_was_put_off_goes_with_it(rig: ReleasesRig) -> None:
    rig.back.add_unlock(rig.endpoint, 1)
    rig.endpoint.dead = True
    rig.back.endpoint_died(rig.endpoint, ErrorCode.SERVER_DIED)
    rig.back.add_unlock(rig.endpoint, 2)
    assert (list(rig.queue.entries), rig.back.state.put_off) == ([], [])


def test_what_was_put_off_is_sent_to_a_server_whose_memory_is_wanted(rig: ReleasesRig) -> None:
    other = rig.create("d1")
    rig.back.add_unlock(rig.endpoint, 1)
    assert not rig.back.send_now(other)
    assert rig.back.send_now(rig.endpoint)
    assert not rig.back.send_now(rig.endpoint)
    assert rig.post() == [(Operation.UNLOCK_DIRECTORY, 1, 1)]
