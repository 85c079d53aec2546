"""Batches: several requests in one message.  Whole flows, a full house, deaths and preemptions at each instruction."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from callgate.kernel.abi.message import BATCH_ENTRIES
from ipc_stepper import Stepper

SomeOf = Callable[[Iterable[int], int], list[int]]
Rigs = Callable[..., Any]
ENOUGH = 400_000
BATCHER = {"program": "batcher", "entries": 4, "count": 3}
SINGLE = {"program": "client", "count": 3, "seed": 0x9000}


@pytest.mark.parametrize("entries", [1, 2, BATCH_ENTRIES])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_request_of_a_batch_is_answered_with_its_own_result(rig: Rigs, entries: int, threads: int) -> None:
    clients = [{**BATCHER, "entries": entries, "count": 5, "seed": 7000 * number} for number in range(3)]
    made = rig("inverter", *clients, THREADS=threads)
    assert made.run().reason == "halt"
    assert made.codes == [0, 0, 0]
    assert made.requests == made.block["replies"] == 15, "a batch is one message"
    assert made.machine.ledger.counts().batched_requests == 15 * entries
    assert made.unaccounted() == []


def test_batches_and_single_requests_share_the_slots_in_order_of_arrival(rig: Rigs) -> None:
    clients = [{**(BATCHER if number % 2 else SINGLE), "seed": 0x1000 * number} for number in range(40)]
    made = rig("inverter", *clients, THREADS=2)
    assert made.run().reason == "halt"
    assert made.codes == [0] * 40
    assert made.block["full_waits"] > 0, "32 slots do not suffice for 40 clients"
    assert made.block["unused"] == 0
    assert made.unaccounted() == []


def test_a_lone_batch_is_handed_over_without_a_host_call_in_either_direction(rig: Rigs) -> None:
    made = rig("inverter", BATCHER, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label_of_client("after"))
    made.system.run(until=made.label_of_client("before"))
    before = made.machine.ledger.counts()
    made.system.run(until=made.label_of_client("after"))
    spent = made.machine.ledger.counts() - before
    assert (sum(spent.host_calls.values()), spent.fast_handoffs, spent.requests) == (0, 2, 1)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_server_killed_at_any_instruction_of_a_batch_strands_no_client(
    rig: Rigs, first: str, some_of: SomeOf, *, fast: bool
) -> None:
    clients = (BATCHER, {**BATCHER, "seed": 0x2000}, SINGLE)
    stepper = Stepper(rig("inverter", *clients, THREADS=1, options={"fast_path": fast}))
    died = 100 + stepper.rig.error("SERVER_DIED")
    for steps in some_of(range(stepper.length() + 2), 31):
        made = stepper.after(steps)
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        if first == "server":
            made.kernel.scheduler.request_yield()
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert set(made.codes) == {died}, steps
        assert made.unaccounted() == [], steps


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_killed_at_any_instruction_of_its_batch_leaves_nothing_behind(
    rig: Rigs, some_of: SomeOf, *, fast: bool
) -> None:
    clients = (BATCHER, {**BATCHER, "seed": 0x2000}, SINGLE)
    stepper = Stepper(rig("inverter", *clients, THREADS=1, options={"fast_path": fast}))
    for steps in some_of(range(stepper.length() + 2), 31):
        made = stepper.after(steps)
        made.kernel.processes.kill(made.clients[0], 9)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert made.codes == [9, 0, 0], steps
        assert made.unaccounted() == [], steps


@pytest.mark.parametrize("threads", [1, 3])
def test_a_preemption_at_any_instruction_of_a_batch_changes_no_answer(rig: Rigs, threads: int, some_of: SomeOf) -> None:
    clients = [{**BATCHER, "seed": 0x1000 * number} for number in range(3)]
    stepper = Stepper(rig("inverter", *clients, SINGLE, THREADS=threads))
    preempted = 0
    instants = some_of(range(stepper.length() + 2), 31)
    for steps in instants:
        made = stepper.after(steps)
        made.kernel.scheduler.request_yield()
        switches = made.machine.ledger.counts().host_calls.get("yield", 0)
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        preempted += made.machine.ledger.counts().host_calls.get("yield", 0) > switches
        assert made.codes == [0, 0, 0, 0], steps
        assert made.requests == made.block["replies"] == 12, steps
        assert made.unaccounted() == [], steps
    assert preempted > len(instants) // 2


def test_a_client_interrupted_at_any_instruction_of_its_batch_is_told_or_answered(rig: Rigs, some_of: SomeOf) -> None:
    stepper = Stepper(rig("inverter", BATCHER, {**BATCHER, "seed": 0x2000}, THREADS=1))
    told = 100 + stepper.rig.error("INTERRUPTED")
    codes = set()
    for steps in some_of(range(stepper.length() + 2), 31):
        made = stepper.after(steps)
        made.kernel.threads.interrupt(made.clients[0].threads[0])
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        codes.add(made.codes[0])
        assert made.codes[1] == 0, steps
        assert made.unaccounted() == [], steps
    assert told in codes
    assert codes <= {0, told}
