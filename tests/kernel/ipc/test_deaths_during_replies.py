"""A server or its client dies at any instruction of a reply: with a full house, and with a reply that holds pages."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

Rigs = Callable[..., Any]
SomeOf = Callable[[range, int], list[int]]
ENOUGH = 400_000
CROWD = [{"count": 2, "seed": 0x1000 * number} for number in range(34)]
GIVE_GLADLY = 11  # of programs/hostile.asm: a correct object for a client that asked for registers only
REPLY_STEPS = 60


def after_each_step(made: Any, steps: Iterable[int]) -> Iterator[int]:
    """Restore the rig, run a number of instructions, yield the number; again for every number."""
    numbers = [process.number for process in made.clients]
    kept = made.system.snapshot()
    for count in steps:
        made.system.restore(kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.machine.step(count)
        yield count


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("order", [0, 1])
def test_a_server_killed_at_any_instruction_of_a_reply_gives_no_slot_to_two_clients(
    rig: Rigs, order: int, some_of: SomeOf
) -> None:
    made = rig("collector", *CROWD, ORDER=order)
    made.system.run(until="reply")
    assert made.block["slot_waiters"] == len(CROWD) - 32
    died = 100 + made.error("SERVER_DIED")
    for steps in after_each_step(made, some_of(range(REPLY_STEPS), 3)):
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert made.codes == [died] * len(CROWD), steps
        assert made.unaccounted() == [], steps


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("victim", ["server", "client"])
def test_pages_of_a_reply_are_released_although_client_or_server_dies_at_any_instruction(
    rig: Rigs, victim: str, some_of: SomeOf
) -> None:
    made = rig("hostile", {"operation": GIVE_GLADLY, "count": 3}, {"count": 3, "seed": 0x7000})
    made.system.run(until=made.label("after"))
    made.system.run(until="server_gate")
    died = 100 + made.error("SERVER_DIED")
    used = set()
    for steps in after_each_step(made, some_of(range(4 * REPLY_STEPS), 4)):
        if victim == "server":
            made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        else:
            made.kernel.processes.kill(made.clients[0], 9)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert made.codes == ([died, died] if victim == "server" else [9, 0]), steps
        assert made.unaccounted() == [], steps
        made.kernel.threads.reap()
        made.kernel.exits.reap_orphans()
        used.add(made.kernel.memory.low.used - len(made.endpoint.frames))
    assert len(used) == 1, "frames of the dead must come back, whenever they died"
