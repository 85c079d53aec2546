"""Clients that come late, or again and again: none takes a slot of the server before those that wait for one."""

from collections.abc import Callable
from typing import Any

from callgate.kernel.abi.selectors import SLOTS

Rigs = Callable[..., Any]
CROWD = [{"count": 2, "seed": 0x1000 * number} for number in range(SLOTS)]
GREEDY, MODEST = 12, 3  # requests


def test_a_newcomer_does_not_overtake_a_waiting_thread_while_a_slot_is_released(rig: Rigs) -> None:
    """A release is preempted between its two looks; when it goes on, a thread waits and the slot's bit is set."""
    made = rig("collector", *CROWD[:32], ORDER=0)
    made.system.run(until="ipc_gate.release")
    kept = made.system.snapshot()
    made.trace()
    windows = 0
    for steps in range(5):
        made.system.restore(kept)
        made.machine.step(steps)
        preempted_at = made.machine.cpu.eip
        made.start_client(seed=0x9000, priority=9)
        made.attention()
        made.system.run(until=preempted_at)
        made.machine.step(5 - steps)
        if not (made.block["free"] and made.endpoint.waiters):
            continue
        windows += 1
        waiting = made.kernel.state.tasks.threads[made.endpoint.waiters[0]].number
        newcomer = made.start_client(seed=0xA000, priority=9).threads[0].number
        made.events.clear()
        made.attention()
        made.run()
        taken = made.happened("ipc.take")
        assert taken.index(waiting) < taken.index(newcomer), steps
        assert made.unaccounted() == [], steps
    assert windows > 0, "the moment at which a slot is free and a thread waits must have been met"


def test_a_flood_of_requests_makes_a_client_wait_for_no_thread_that_came_after_it(rig: Rigs) -> None:
    """All ask again as soon as they have an answer; the server answers the last one first."""
    flood = [{"count": GREEDY, "seed": 0x1000 * number} for number in range(SLOTS + 8)]
    made = rig("collector", *flood, {"count": MODEST, "seed": 0x9_0000}, ORDER=1)
    made.trace()
    made.system.run(until=made.label("start"))
    modest = made.threads()[-1].number
    assert made.run(100_000_000).reason == "halt"
    taken = made.happened("ipc.take")
    turns = [index for index, thread in enumerate(taken) if thread == modest]
    assert len(turns) == MODEST
    waited = [after - before for before, after in zip([-1, *turns], turns, strict=False)]
    assert max(waited) <= SLOTS + len(made.clients), "its request was open, then all others stood before it"
    assert set(made.codes) == {0}
    assert made.unaccounted() == []
