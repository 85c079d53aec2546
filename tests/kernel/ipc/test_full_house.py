"""More clients than slots, and a server that answers when and in what order it likes."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.message import EndpointFlags
from callgate.kernel.abi.selectors import SLOTS

CLIENTS = 40
AS_THEY_CAME, LAST_FIRST, SCRAMBLED = 0, 1, 2
MANY = [{"count": 4, "seed": 0x1000 * number} for number in range(CLIENTS)]
Rigs = Callable[..., Any]


@pytest.mark.parametrize("order", [AS_THEY_CAME, LAST_FIRST, SCRAMBLED])
def test_every_client_gets_its_own_answer_in_whatever_order_the_server_replies(rig: Rigs, order: int) -> None:
    made = rig("collector", *MANY, ORDER=order)
    stop = made.run()
    assert stop.reason == "halt"
    assert made.codes == [0] * CLIENTS
    assert made.requests == made.block["replies"] == 4 * CLIENTS
    assert made.block["bad_replies"] == 0
    assert made.unaccounted() == []


def test_answers_come_in_the_order_in_which_the_server_replies(rig: Rigs) -> None:
    made = rig("collector", *MANY[:SLOTS], ORDER=LAST_FIRST)
    made.trace()
    threads = [thread.number for thread in _threads_after_boot(made)]
    made.run()
    assert made.happened("ipc.post")[:SLOTS] == threads
    assert made.happened("ipc.wake")[:SLOTS] == threads[::-1]


@pytest.mark.parametrize("order", [AS_THEY_CAME, LAST_FIRST, SCRAMBLED])
def test_threads_that_find_32_busy_slots_are_given_one_in_order_of_arrival(rig: Rigs, order: int) -> None:
    made = rig("collector", *MANY, ORDER=order)
    made.trace()
    threads = [thread.number for thread in _threads_after_boot(made)]
    made.run()
    taken = made.happened("ipc.take")
    # No thread takes a second slot before all threads that wait for a first one have it.
    assert taken[:CLIENTS] == threads
    assert made.block["full_waits"] >= CLIENTS - SLOTS


def test_clients_that_find_all_slots_busy_wait_and_neither_spin_nor_fail(rig: Rigs) -> None:
    made = rig("keeper", *[{} for _ in range(CLIENTS)])
    assert made.run().reason == "halt"
    assert made.codes == [None] * CLIENTS
    assert made.block["free"] == made.block["unused"] == 0
    assert made.block["slot_waiters"] == len(made.endpoint.waiters) == CLIENTS - SLOTS
    # Halted: the clock moves on only if an interrupt comes, and none is due.
    assert made.system.run(fuel=100_000).reason == "halt"


def test_clients_killed_in_the_queue_for_a_slot_leave_the_others_in_order(rig: Rigs) -> None:
    made = rig("collector", *[{"seed": 16 * n} for n in range(CLIENTS)], ORDER=AS_THEY_CAME)
    made.trace()
    threads = [thread.number for thread in _threads_after_boot(made)]
    made.system.run(until="ipc.reply")
    assert len(made.endpoint.waiters) == CLIENTS - SLOTS
    for index in (33, 36, 39):
        made.kernel.processes.kill(made.clients[index], 9)
    made.run()
    expected = [number for index, number in enumerate(threads) if index not in {33, 36, 39}]
    assert made.happened("ipc.take") == expected
    assert made.codes == [9 if index in {33, 36, 39} else 0 for index in range(CLIENTS)]
    assert made.unaccounted() == []


def test_a_server_that_dies_with_32_requests_open_fails_them_and_those_that_wait(rig: Rigs) -> None:
    made = rig("keeper", *[{} for _ in range(CLIENTS)])
    made.run()
    server = made.endpoint.process
    made.kernel.servers.kill(server, "killed by the test")
    made.attention()
    assert made.run().reason == "halt"
    died = 100 + made.error("SERVER_DIED")
    assert made.codes == [died] * CLIENTS
    assert made.block["flags"] == EndpointFlags.DEAD
    assert made.unaccounted() == []
    assert not server.threads
    assert not server.pages
    # The rest of the system goes on: a new client is refused at once, nothing waits.
    late = made.start_client()
    made.attention()
    made.run()
    assert late.exit_code == died


def _threads_after_boot(made: Any) -> list[Any]:
    """Run until the clients have been started and none has made a request; return their threads."""
    made.system.run(until=made.label("start"))
    assert len(made.clients) == len(made.wanted)
    return list(made.threads())
