"""The direct switch from a client into a server's ring 3 and back, and the moments at which the long way is taken."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.abi.selectors import SELECTOR_KERNEL_DATA, SLOTS
from callgate.kernel.abi.thread import GateFrame, KernelWords, ThreadState
from callgate.kernel.core.control_block import word
from callgate.kernel.core.records import Thread
from callgate.kernel.tasks.fpu import CR0_TS
from callgate.kernel.tasks.scheduler import TCB_STATE
from callgate.tools.bench.ipc import Bench

Rigs = Callable[..., Any]
SomeOf = Callable[[Iterable[int], int], list[int]]
REQUEST, REPLY = "ipc_gate.direct", "server_gate.direct"
INSIDE, BACK_INSIDE = "hand_over_request", "server_gate.direct of a batch"  # of a client that waits within the kernel
PLACES = (REQUEST, REPLY, INSIDE, BACK_INSIDE)
REPLIES = (REPLY, BACK_INSIDE)
ARM_TIMER = word(KernelWords, "preempt") + 1
CLIENTS = ({"program": "client", "count": 1}, {"program": "batcher", "entries": 2, "count": 1})
FUEL = 20_000
INTERRUPT_FLAG = 1 << 9
LONGEST = 2000  # instructions from a gate to ring 3, switches to other threads included


@pytest.fixture(scope="module")
def before() -> Iterator[Callable[[str], Bench]]:
    """A system with one client of a null server, just before it hands over its request, or takes its reply."""
    kept, benches = {}, {}
    for program, places in (("bench_client", (REQUEST, REPLY)), ("bench_batch", (INSIDE, BACK_INSIDE))):
        bench = Bench(clients=1, program=program)
        bench.system.run(fuel=FUEL)
        for place in places:
            bench.system.run(until=bench.kernel.guest.address(place.split()[0]))
            benches[place], kept[place] = bench, bench.system.snapshot()

    def stand(place: str) -> Bench:
        benches[place].system.restore(kept[place])
        return benches[place]

    yield stand
    for place in (REQUEST, INSIDE):
        stand(place).close()


def both(bench: Bench) -> tuple[Thread, Thread]:
    """Return the client's thread and the server's."""
    threads = {thread.name: thread for thread in bench.kernel.state.tasks.threads.values()}
    return threads["client"], threads["null"]


def go_on(bench: Bench) -> tuple[int, int]:
    """Run to ring 3; return the requests and the replies that took the direct switch on the way."""
    machine = bench.system.machine
    earlier = machine.ledger.counts()
    for _ in range(LONGEST):
        machine.step()
        if machine.cpu.cpl == 3:
            break
    spent = machine.ledger.counts() - earlier
    return spent.fast_requests, spent.fast_replies


def there_and_back(bench: Bench, reason: WaitReason, most: int) -> None:
    """Go on to the server and back: the client waits for `reason`, and executes fewer instructions than `most`."""
    client, server = both(bench)
    scheduler, turns = bench.kernel.scheduler, bench.system.machine.ledger.turns
    assert go_on(bench) == (1, 0)
    assert scheduler.current is server
    assert (scheduler.state_of(client), scheduler.reason_of(client)) == (ThreadState.BLOCKED, reason)
    charged = turns.retired(client.selector)
    bench.system.run(until=bench.kernel.guest.address(REPLY))
    assert go_on(bench) == (0, 1)
    assert scheduler.current is client
    assert (scheduler.state_of(server), scheduler.reason_of(server)) == (ThreadState.BLOCKED, WaitReason.REQUEST)
    assert 0 < turns.retired(client.selector) - charged < most, "the server's instructions are its own"


def test_a_request_and_its_reply_take_the_direct_switch(before: Callable[[str], Bench]) -> None:
    bench = before(REQUEST)
    assert bench.kernel.scheduler.current is both(bench)[0]
    there_and_back(bench, WaitReason.CALL, 60)
    assert bench.kernel.check() == []


def test_a_request_from_within_the_kernel_and_its_reply_take_the_direct_switch(before: Callable[[str], Bench]) -> None:
    bench = before(INSIDE)
    ledger = bench.system.machine.ledger
    earlier = ledger.counts()
    there_and_back(bench, WaitReason.REPLY, 200)
    spent = ledger.counts() - earlier
    assert (spent.host_calls, spent.cr3_loads, spent.pte_writes, spent.tlb_invalidations) == ({}, 2, 2, 0)
    assert bench.kernel.check() == []


@pytest.mark.parametrize("register", ["es", "ds", "fs", "gs"])
@pytest.mark.parametrize("place", PLACES)
def test_a_thread_that_is_switched_to_has_its_own_segment_registers(
    before: Callable[[str], Bench], place: str, register: str
) -> None:
    """It has others than the thread before: no selector, in one of them."""
    bench = before(place)
    thread = both(bench)[place not in REPLIES]
    top = bench.kernel.threads.block(thread)["esp0"]
    frame = bench.kernel.threads.overlay(thread, GateFrame, top - size_of(GateFrame))
    kept = {name: frame[name] for name in ("es", "ds", "fs", "gs")}
    assert kept[register] if register in ("es", "ds") else not kept[register]
    frame[register] = 0 if register in ("es", "ds") else kept["ds"]
    assert go_on(bench)[place in REPLIES] == 1
    cpu = bench.system.machine.cpu
    assert {name: getattr(cpu, name) for name in kept} == kept | {register: frame[register]}


def wake(which: int) -> Callable[[Bench], None]:
    def act(bench: Bench) -> None:
        bench.kernel.scheduler.wake(both(bench)[which])

    act.__name__ = f"wake the {('client', 'server')[which]}"
    return act


def interrupt_the_client(bench: Bench) -> None:
    bench.kernel.threads.interrupt(both(bench)[0])


def let_it_ask(bench: Bench) -> None:
    bench.kernel.scheduler.ask_always(always=True)


def wake_another(bench: Bench) -> None:
    threads = bench.kernel.state.tasks.threads.values()
    bench.kernel.scheduler.wake(next(thread for thread in threads if thread.name == "releases"))


def let_one_sleep(bench: Bench) -> None:
    ageing = next(thread for thread in bench.kernel.state.tasks.threads.values() if thread.name == "ageing")
    bench.kernel.scheduler.sleep_until(ageing, bench.system.machine.clock.now + 10_000)


def use_the_fpu(bench: Bench) -> None:
    words, cpu = bench.kernel.guest.kernel_words, bench.system.machine.cpu
    words["fpu_owner"] = words["current"]
    words.words[words.base + ARM_TIMER] |= 1 << 16
    cpu.cr0 &= ~CR0_TS


LONG_WAY = (wake(0), wake(1), interrupt_the_client, let_it_ask, wake_another, let_one_sleep, use_the_fpu)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("moment", LONG_WAY, ids=lambda moment: moment.__name__)
def test_the_long_way_is_taken_where_there_is_something_to_choose_to_arm_or_to_tell(
    before: Callable[[str], Bench], place: str, moment: Callable[[Bench], None]
) -> None:
    bench = before(place)
    moment(bench)
    assert go_on(bench) == (0, 0)
    bench.system.machine.cpu.cr0 |= CR0_TS if moment is use_the_fpu else 0
    if moment is interrupt_the_client:
        return  # whose program ends at the error
    fields = bench.kernel.slots.block(bench.endpoint)
    answered = fields["replies"]
    bench.system.run(fuel=FUEL)
    assert fields["replies"] > answered + 10
    assert bench.kernel.check() == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("moment", LONG_WAY, ids=lambda moment: moment.__name__)
def test_no_selector_of_a_thread_that_may_end_is_left_where_interrupts_come(
    before: Callable[[str], Bench], place: str, moment: Callable[[Bench], None]
) -> None:
    """An interrupted thread loads its segment registers again, and would fault if a descriptor had gone meanwhile."""
    bench = before(place)
    moment(bench)
    cpu = bench.system.machine.cpu
    bench.system.machine.step(3 if place == INSIDE else 0)  # it turns interrupts off
    while not cpu.eflags & INTERRUPT_FLAG:
        bench.system.machine.step()
        assert cpu.cpl == 0
    assert (cpu.ds, cpu.es) == (SELECTOR_KERNEL_DATA, SELECTOR_KERNEL_DATA)
    cpu.cr0 |= CR0_TS if moment is use_the_fpu else 0


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("state", [ThreadState.READY, ThreadState.RUNNING, ThreadState.DEAD])
@pytest.mark.parametrize("place", PLACES)
def test_a_thread_that_does_not_wait_for_it_is_not_switched_to(
    before: Callable[[str], Bench], place: str, state: ThreadState
) -> None:
    bench = before(place)
    bench.kernel.guest.words[both(bench)[place not in REPLIES].tcb + TCB_STATE] = state
    assert go_on(bench)[place in REPLIES] == 0


@pytest.mark.breaks_invariants
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (place, reason)
        for place in PLACES
        for reason in (WaitReason.REPLY, WaitReason.SLOT, WaitReason.FILE, WaitReason.SLEEP)
        if (place in REPLIES, reason) != (True, WaitReason.REPLY)  # which is the wait within the kernel
    ],
)
def test_a_thread_that_waits_for_something_else_is_not_switched_to(
    before: Callable[[str], Bench], place: str, reason: WaitReason
) -> None:
    """It is woken, and looks at its condition, as after every wait."""
    bench = before(place)
    bench.kernel.scheduler.note_wait(both(bench)[place not in REPLIES], reason)
    assert go_on(bench)[place in REPLIES] == 0


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("place", [REQUEST, INSIDE])
def test_a_request_for_which_no_thread_of_the_server_sleeps_is_posted(
    before: Callable[[str], Bench], place: str
) -> None:
    bench = before(place)
    fields = bench.kernel.slots.block(bench.endpoint)
    fields["idle"], fields["head"], fields["tail"] = 0, 5, 5
    # BSF of an empty mask leaves the caller's EDI: it names a bit of another word of the endpoint.
    table = fields["window_table"]
    beyond = 8 * (offset_of(Endpoint, "window_table") - offset_of(Endpoint, "idle"))
    bench.system.machine.cpu.edi = beyond + (table & -table).bit_length() - 1
    assert go_on(bench) == (0, 0)
    assert (fields["tail"], fields["window_table"]) == (6, table)


@pytest.mark.parametrize("place", [REQUEST, INSIDE])
def test_no_invariant_is_broken_between_two_instructions_of_a_direct_switch(
    before: Callable[[str], Bench], place: str
) -> None:
    bench = before(place)
    machine = bench.system.machine
    steps = 0
    while machine.cpu.cpl != 3:
        assert bench.kernel.check() == [], f"{steps} instructions after {place}"
        machine.step()
        steps += 1
    assert 30 < steps < 100


def test_a_request_waits_its_turn_after_one_that_is_in_the_ring(rig: Rigs) -> None:
    """Of two clients the first is preempted between its post and its look for a server that sleeps."""
    made = rig("echo", {"count": 3}, {"count": 3, "seed": 0x2000}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.kernel.scheduler.ask_always(always=True)
    made.system.run(until="ipc_gate.posted")
    made.kernel.scheduler.ask_always(always=False)
    made.kernel.scheduler.request_yield()
    made.attention()
    made.system.run(until="ipc_gate.direct")
    assert made.block["tail"] - made.block["head"] == 1
    fast = made.block["fast"]
    made.system.run(until="serve")
    assert made.block["fast"] == fast
    assert made.run().reason == "halt"
    assert (made.codes, made.unaccounted()) == ([0, 0], [])


@pytest.mark.parametrize("client", CLIENTS, ids=["one", "two"])
def test_a_reply_lets_the_server_take_what_came_meanwhile(rig: Rigs, client: dict[str, Any]) -> None:
    """A second client posts while the server works on the only request of the first, or its only batch, and waits."""
    made = rig("inverter", client, THREADS=1, options={"fast_path": True})
    made.system.run(until="ipc.map")
    while made.machine.cpu.cpl != 3:
        made.machine.step()
    server = made.kernel.scheduler.running
    late = made.start_client(program="client", count=1, seed=0x2000)
    made.kernel.scheduler.request_yield()
    made.attention()
    made.system.run(until="server_gate.direct")
    assert made.kernel.scheduler.running is server
    assert made.kernel.scheduler.reason_of(late.threads[0]) is WaitReason.REPLY
    assert made.block["tail"] - made.block["head"] == 1
    made.system.run(until="serve")
    assert made.machine.ledger.fast_replies == 0, "the client is woken the long way"
    assert made.run().reason == "halt"
    assert (made.codes, late.exit_code, made.unaccounted()) == ([0], 0, [])


def test_a_client_that_waits_for_a_slot_is_given_that_of_a_direct_reply(rig: Rigs) -> None:
    """It begins to wait at any instruction of the reply: before the look at the waiters, and after it."""
    made = rig("echo", {"count": 2}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until="server_gate.direct")
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.system.run(until="server_gate.leaving")
    length = made.machine.clock.retired - start
    given: list[int] = []
    made.machine.probe(made.kernel.guest.address("server_gate.rescue_direct"), lambda: given.append(made.block["free"]))
    for steps in range(length):
        made.system.restore(kept)
        made.machine.step(steps)
        fields = made.block
        fields["slot_waiters"] += 1  # as `take_slot` publishes it; the thread itself comes later
        made.machine.step(length - steps)
        fields["slot_waiters"] -= 1
        assert fields["free"].bit_count() + fields["unused"].bit_count() == SLOTS, steps
    assert 0 < len(given) < length, "only of those that begin to wait before the last look"


EVENTS = ("ipc.take", "ipc.fill", "ipc.post", "ipc.fetch", "ipc.map", "ipc.reply", "ipc.unmap", "ipc.wake")


def test_both_ways_report_the_same_events(rig: Rigs) -> None:
    found = []
    for fast in (True, False):
        made = rig("echo", {"count": 5}, THREADS=1, options={"fast_path": fast})
        made.trace()
        assert made.run().reason == "halt"
        wanted = (*EVENTS, "ipc.reload", "ipc.release", "thread.switch")
        found.append([(kind, thread) for kind, thread, _ in made.events if kind in wanted])
        assert (made.block["fast"] > 0) == fast
    direct, posted = found
    for kind in (*EVENTS, "ipc.reload", "ipc.release"):
        assert [one for one in direct if one[0] == kind] == [one for one in posted if one[0] == kind], kind
