"""One request, interrupted at each of its instructions: a death or a preemption there changes nothing for others.

The clients' kernel path, the server's and the server's own code are stepped through; at every instruction in
turn something happens, and the rest of the run must come out right.  Deaths at samples of whole workloads are in
tests/kernel/test_deaths.py.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ipc_stepper import Stepper

SomeOf = Callable[[Iterable[int], int], list[int]]
Rigs = Callable[..., Any]
ENOUGH = 200_000


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_server_killed_at_any_instruction_of_a_request_strands_no_client(
    rig: Rigs, first: str, some_of: SomeOf
) -> None:
    """`first` goes on first: the client meets a server that is dying, or one that is gone."""
    stepper = Stepper(rig("echo", {"count": 3}, {"count": 3, "seed": 0x2000}, THREADS=1))
    died = 100 + stepper.rig.error("SERVER_DIED")
    for steps in some_of(range(stepper.length() + 2), 5):
        made = stepper.after(steps)
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        if first == "server":
            made.kernel.scheduler.request_yield()
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert set(made.codes) == {died}, steps
        assert made.unaccounted() == [], steps


@pytest.mark.thorough(only=True)
def test_a_server_with_several_threads_killed_at_any_instruction_strands_no_client(rig: Rigs) -> None:
    clients = [{"count": 3, "seed": 0x1000 * number} for number in range(5)]
    stepper = Stepper(rig("echo", *clients, THREADS=3))
    died = 100 + stepper.rig.error("SERVER_DIED")
    for steps in range(0, 3 * stepper.length(), 5):
        made = stepper.after(steps)
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert set(made.codes) <= {died, 0}, steps
        assert made.unaccounted() == [], steps


def test_a_client_killed_at_any_instruction_of_its_request_leaves_nothing_behind(rig: Rigs, some_of: SomeOf) -> None:
    stepper = Stepper(rig("echo", {"count": 3}, {"count": 3, "seed": 0x2000}, THREADS=1))
    for steps in some_of(range(stepper.length() + 2), 5):
        made = stepper.after(steps)
        made.kernel.processes.kill(made.clients[0], 9)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert made.codes == [9, 0], steps
        assert made.unaccounted() == [], steps


def test_a_program_killed_at_any_instruction_of_a_system_call_never_computes_again(rig: Rigs, some_of: SomeOf) -> None:
    made = rig("keeper", {"program": "loner"})
    made.system.run(until=made.label_of("loner", "start"))
    number = made.clients[0].number
    kept = made.system.snapshot()
    for steps in some_of(range(100), 3):
        made.system.restore(kept)
        loner = made.kernel.state.tasks.processes[number]
        made.machine.step(steps)
        at = made.machine.cpu.eip
        made.kernel.processes.kill(loner, 9)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert loner.exit_code == 9, steps
        if at == made.label_of("loner", "forever"):
            return
    pytest.fail("the call did not come back")


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_preemption_at_any_instruction_of_a_request_changes_no_answer(
    rig: Rigs, threads: int, some_of: SomeOf
) -> None:
    clients = [{"count": 3, "seed": 0x1000 * number} for number in range(4)]
    stepper = Stepper(rig("echo", *clients, THREADS=threads))
    preempted = 0
    instants = some_of(range(stepper.length() + 2), 5)
    for steps in instants:
        made = stepper.after(steps)
        made.kernel.scheduler.request_yield()
        switches = made.machine.ledger.counts().host_calls.get("yield", 0)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        preempted += made.machine.ledger.counts().host_calls.get("yield", 0) > switches
        assert made.codes == [0] * len(clients), steps
        assert made.requests == made.block["replies"] == 3 * len(clients), steps
        assert made.unaccounted() == [], steps
    assert preempted > len(instants) // 2


@pytest.mark.thorough(only=True)
def test_two_requests_preempted_at_any_pair_of_instructions_both_come_back(rig: Rigs, some_of: SomeOf) -> None:
    clients = [{"count": 2, "seed": 0x1000 * number} for number in range(3)]
    stepper = Stepper(rig("echo", *clients, THREADS=2))
    for first in range(0, stepper.length(), 7):
        for second in some_of(range(1, stepper.length(), 29), 2):
            made = stepper.after(first)
            for steps in (0, second):
                made.machine.step(steps)
                made.kernel.scheduler.request_yield()
                made.attention()
            assert made.run(ENOUGH).reason == "halt", (first, second)
            assert made.codes == [0] * len(clients), (first, second)
            assert made.unaccounted() == [], (first, second)


CROWD = [{"count": 2, "seed": 0x1000 * number} for number in range(34)]


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("act", ["kill the client", "kill the server", "preempt"])
@pytest.mark.parametrize("place", ["take_slot.queue", "take_slot.given", "ipc_gate.give"])
def test_no_death_or_preemption_at_any_instruction_loses_a_slot_when_all_are_busy(
    rig: Rigs, place: str, act: str, some_of: SomeOf
) -> None:
    made = rig("echo", *CROWD, THREADS=1)
    made.system.run(until=place)
    numbers = [process.number for process in made.clients]
    kept = made.system.snapshot()
    victim = made.clients.index(made.kernel.scheduler.current.process)
    for steps in some_of(range(120), 11):
        made.system.restore(kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.machine.step(steps)
        if act == "kill the client":
            made.kernel.processes.kill(made.clients[victim], 9)
        elif act == "kill the server":
            made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        made.kernel.scheduler.request_yield()
        made.attention()
        assert made.run(2 * ENOUGH).reason == "halt", steps
        died = 100 + made.error("SERVER_DIED")
        allowed = {"kill the client": {0}, "kill the server": {died}, "preempt": {0}}[act]
        others = {code for index, code in enumerate(made.codes) if index != victim}
        assert others <= allowed, steps
        assert made.codes[victim] == 9 if act == "kill the client" else made.codes[victim] in allowed, steps
        assert made.unaccounted() == [], steps


def test_a_client_that_begins_to_wait_at_any_instruction_of_a_release_gets_the_slot(rig: Rigs, some_of: SomeOf) -> None:
    made = rig("collector", *CROWD[:32], ORDER=0)
    made.system.run(until="ipc_gate.release")
    assert made.block["free"] == made.block["slot_waiters"] == 0
    numbers = [process.number for process in made.clients]
    kept = made.system.snapshot()
    waited = 0
    rescued: list[int] = []
    made.machine.probe(made.kernel.guest.address("ipc_gate.give_back"), lambda: rescued.append(steps))
    for steps in some_of(range(24), 3):
        made.system.restore(kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.machine.step(steps)
        late = made.start_client(seed=0x9000, priority=9)
        made.attention()
        made.system.run(until=made.label("after"))
        waited += made.block["full_waits"]
        assert made.run().reason == "halt", steps
        assert late.exit_code == 0, steps
        assert made.codes == [0] * 32, steps
        assert made.unaccounted() == [], steps
    assert waited > 0
    assert rescued, "the window between the two looks at slot_waiters must have been hit"
