"""Batches: several requests in one message.  Whole flows, a full house, deaths and preemptions at each instruction."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from batch_asker import Asker, Entry, attention
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.limits import BATCH_ENTRIES
from callgate.kernel.abi.message import SlotState
from callgate.kernel.system import System, SystemOptions
from ipc_rig import program
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


@pytest.mark.parametrize("entries", [1, 5])
@pytest.mark.parametrize(("server", "defines"), [("inverter", {"THREADS": 1}), ("batch_server", {"HOW": 7})])
def test_the_library_makes_a_batch_also_for_a_server_that_knows_none(
    rig: Rigs, server: str, defines: dict[str, int], entries: int
) -> None:
    made = rig(server, {**BATCHER, "entries": entries, "library": 1}, **defines)
    assert made.run().reason == "halt"
    assert made.codes == [0]
    assert made.requests == (3 if server == "inverter" else 3 * (1 + entries))


def test_the_library_reports_what_fails_a_batch_as_a_whole(rig: Rigs) -> None:
    made = rig("batch_server", {**BATCHER, "library": 1}, HOW=6)
    assert made.run().reason == "halt"
    assert made.codes == [100 + made.error("IO_ERROR")]


def test_batches_and_single_requests_share_the_slots_in_order_of_arrival(rig: Rigs) -> None:
    clients = [{**(BATCHER if number % 2 else SINGLE), "seed": 0x1000 * number} for number in range(40)]
    made = rig("inverter", *clients, THREADS=2)
    assert made.run().reason == "halt"
    assert made.codes == [0] * 40
    assert made.block["full_waits"] > 0, "32 slots do not suffice for 40 clients"
    assert made.block["unused"] == 0
    assert made.unaccounted() == []


@pytest.mark.parametrize("volume", ["rom", "d0p1"])
def test_a_batch_of_a_volumes_server_has_the_results_of_single_requests(volume: str) -> None:
    """In machine code (the ROM) and in Python (FAT)."""
    system = System([ImageFile(demo_image(cache_directory()))], SystemOptions(shell=False, log=lambda _line: None))
    system.run()
    numbers = {endpoint.name: endpoint.number for endpoint in system.kernel.state.endpoints.by_number.values()}
    asker = Asker(system, numbers[volume])
    operations = (Operation.VOLUME, Operation.FREE_SPACE, Operation.NULL, 0x123, Operation.VOLUME, Operation.FREE_SPACE)
    wanted = [Entry(operation, *range(100 * index, 100 * index + 6)) for index, operation in enumerate(operations)]
    singles = [asker.single(entry) for entry in wanted]
    replies = asker.batch(*wanted)
    # What else than EAX a native server leaves with an operation that it does not know is no result.
    assert [reply.registers[: 1 if reply.eflags & 1 else 6] for reply in replies] == [
        single.registers[: 1 if single.eflags & 1 else 6] for single in singles
    ]
    assert [reply.eflags & 1 for reply in replies] == [single.eflags & 1 for single in singles] == [0, 0, 0, 1, 0, 0]
    assert len({single.registers for single in singles[:3]}) == 3, "the operations answer in different ways"
    system.close()


def test_a_look_at_a_slot_says_how_many_requests_a_batch_is_and_which_one_is_served(rig: Rigs) -> None:
    made = rig("inverter", BATCHER, THREADS=1, options={"fast_path": False})
    made.system.run(until="signal_and_wait")
    (slot,) = [slot for slot in made.system.slots("rig") if slot.state is SlotState.POSTED]
    assert slot.operation == "BATCH of 4"
    made.system.run(until=program("inverter", THREADS=1).address("inverted"))
    assert made.system.slots("rig")[slot.index].operation == "operation 0x100"


def test_a_lone_batch_is_handed_over_without_a_host_call_in_either_direction(rig: Rigs) -> None:
    made = rig("inverter", BATCHER, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label_of_client("after"))
    made.system.run(until=made.label_of_client("before"))
    before = made.machine.ledger.counts()
    made.system.run(until=made.label_of_client("after"))
    spent = made.machine.ledger.counts() - before
    assert (sum(spent.host_calls.values()), spent.fast_handoffs, spent.requests) == (0, 2, 1)
    assert (spent.fast_requests, spent.fast_replies) == (1, 1)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_server_killed_at_any_instruction_of_a_batch_strands_no_client(
    rig: Rigs, first: str, some_of: SomeOf, *, fast: bool
) -> None:
    clients = (BATCHER, {**BATCHER, "seed": 0x2000}, SINGLE)
    stepper = Stepper(rig("inverter", *clients, THREADS=1, options={"fast_path": fast}))
    died = 100 + stepper.rig.error("SERVER_DIED")
    for steps in some_of(range(stepper.length() + 2), 17):
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
    for steps in some_of(range(stepper.length() + 2), 17):
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
    instants = some_of(range(stepper.length() + 2), 17)
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
    for steps in some_of(range(stepper.length() + 2), 17):
        made = stepper.after(steps)
        made.kernel.threads.interrupt(made.clients[0].threads[0])
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        codes.add(made.codes[0])
        assert made.codes[1] == 0, steps
        assert made.unaccounted() == [], steps
    assert told in codes
    assert codes <= {0, told}


@pytest.mark.parametrize(("volume", "count", "lines"), [("rom", 40, 0), ("d0p1", 4, 4)])
def test_what_a_server_no_longer_need_hold_is_told_in_batches(volume: str, count: int, lines: int) -> None:
    """In machine code (the ROM keeps nothing) and in Python (FAT: each CLOSE of a file that is not open fails)."""
    log: list[str] = []
    system = System([ImageFile(demo_image(cache_directory()))], SystemOptions(shell=False, log=log.append))
    system.run()
    log.clear()
    endpoint = next(end for end in system.kernel.state.endpoints.by_number.values() if end.name == volume)
    for number in range(count):
        system.kernel.releases.taken(endpoint)
        system.kernel.releases.add(endpoint, Operation.CLOSE, 1000 + number)
    before = system.machine.ledger.counts()
    attention(system)
    system.run()
    spent = system.machine.ledger.counts() - before
    assert (spent.requests, spent.batched_requests) == (-(-count // BATCH_ENTRIES), count)
    assert (endpoint.held, len(log), system.kernel.check()) == (0, lines, [])
    system.close()


def test_a_server_killed_at_any_instruction_of_a_batch_of_releases_leaves_nothing_behind(
    rig: Rigs, some_of: SomeOf
) -> None:
    made = rig("inverter", THREADS=1)
    made.run()
    for number in range(5):
        made.kernel.releases.taken(made.endpoint)
        made.kernel.releases.add(made.endpoint, Operation.NULL, number)
    made.attention()
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.system.run(until="ipc_post_batch")
    first = made.machine.clock.retired - start
    ends = set()
    for steps in some_of(range(first, first + 600), 19):
        made.system.restore(kept)
        made.machine.step(steps)
        ends.add(made.endpoint.held)
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")
        made.attention()
        assert made.run(ENOUGH).reason == "halt", steps
        assert (made.endpoint.held, made.endpoint.releases.busy, made.unaccounted()) == (0, False, []), steps
    assert ends == {5, 0}, "before the answer and after it"
