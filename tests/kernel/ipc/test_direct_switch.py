"""The direct switch from a client into a server's ring 3 and back, and the moments at which the long way is taken."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.selectors import SELECTOR_KERNEL_DATA, SLOTS
from callgate.kernel.abi.thread import KernelWords, ThreadState
from callgate.kernel.core.control_block import word
from callgate.kernel.core.records import Thread
from callgate.kernel.tasks.fpu import CR0_TS
from callgate.kernel.tasks.scheduler import TCB_STATE
from callgate.tools.bench.ipc import Bench

Rigs = Callable[..., Any]
SomeOf = Callable[[Iterable[int], int], list[int]]
REQUEST, REPLY = "ipc_gate.direct", "server_gate.direct"
ARM_TIMER = word(KernelWords, "preempt") + 1
FUEL = 20_000
INTERRUPT_FLAG = 1 << 9
LONGEST = 2000  # instructions from a gate to ring 3, switches to other threads included


@pytest.fixture(scope="module")
def before() -> Iterator[Callable[[str], Bench]]:
    """A system with one client of a null server, just before it hands over its request, or takes its reply."""
    bench = Bench(clients=1)
    bench.system.run(fuel=FUEL)
    kept = {}
    for place in (REQUEST, REPLY):
        bench.system.run(until=bench.kernel.guest.address(place))
        kept[place] = bench.system.snapshot()

    def stand(place: str) -> Bench:
        bench.system.restore(kept[place])
        return bench

    yield stand
    stand(REQUEST)
    bench.close()


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


def test_a_request_and_its_reply_take_the_direct_switch(before: Callable[[str], Bench]) -> None:
    bench = before(REQUEST)
    client, server = both(bench)
    scheduler, machine = bench.kernel.scheduler, bench.system.machine
    assert scheduler.current is client
    assert go_on(bench) == (1, 0)
    assert scheduler.current is server
    assert (scheduler.state_of(client), scheduler.reason_of(client)) == (ThreadState.BLOCKED, WaitReason.CALL)
    charged = machine.ledger.turns.retired(client.selector)
    bench.system.run(until=bench.kernel.guest.address(REPLY))
    assert go_on(bench) == (0, 1)
    assert scheduler.current is client
    assert (scheduler.state_of(server), scheduler.reason_of(server)) == (ThreadState.BLOCKED, WaitReason.REQUEST)
    assert 0 < machine.ledger.turns.retired(client.selector) - charged < 60, "the server's instructions are its own"
    assert bench.kernel.check() == []


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


@pytest.mark.parametrize("place", [REQUEST, REPLY])
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


@pytest.mark.parametrize("place", [REQUEST, REPLY])
@pytest.mark.parametrize("moment", LONG_WAY, ids=lambda moment: moment.__name__)
def test_no_selector_of_a_thread_that_may_end_is_left_where_interrupts_come(
    before: Callable[[str], Bench], place: str, moment: Callable[[Bench], None]
) -> None:
    """An interrupted thread loads its segment registers again, and would fault if a descriptor had gone meanwhile."""
    bench = before(place)
    moment(bench)
    cpu = bench.system.machine.cpu
    while not cpu.eflags & INTERRUPT_FLAG:
        bench.system.machine.step()
        assert cpu.cpl == 0
    assert (cpu.ds, cpu.es) == (SELECTOR_KERNEL_DATA, SELECTOR_KERNEL_DATA)
    cpu.cr0 |= CR0_TS if moment is use_the_fpu else 0


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("state", [ThreadState.READY, ThreadState.RUNNING, ThreadState.DEAD])
@pytest.mark.parametrize("place", [REQUEST, REPLY])
def test_a_thread_that_does_not_wait_for_it_is_not_switched_to(
    before: Callable[[str], Bench], place: str, state: ThreadState
) -> None:
    bench = before(place)
    bench.kernel.guest.words[both(bench)[place == REQUEST].tcb + TCB_STATE] = state
    assert go_on(bench)[place == REPLY] == 0


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("reason", [WaitReason.REPLY, WaitReason.SLOT, WaitReason.FILE, WaitReason.SLEEP])
@pytest.mark.parametrize("place", [REQUEST, REPLY])
def test_a_thread_that_waits_for_something_else_is_not_switched_to(
    before: Callable[[str], Bench], place: str, reason: WaitReason
) -> None:
    """It is woken, and looks at its condition, as after every wait."""
    bench = before(place)
    bench.kernel.scheduler.note_wait(both(bench)[place == REQUEST], reason)
    assert go_on(bench)[place == REPLY] == 0


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


def test_a_reply_lets_the_server_take_what_came_meanwhile(rig: Rigs) -> None:
    """A second client posts while the server works on the only request of the first, and waits."""
    made = rig("echo", {"count": 1}, THREADS=1, options={"fast_path": True})
    made.system.run(until="ipc_gate.leaving")
    made.machine.step()
    server = made.kernel.scheduler.running
    late = made.start_client(count=1, seed=0x2000)
    made.kernel.scheduler.request_yield()
    made.attention()
    made.system.run(until="server_gate.direct")
    assert made.kernel.scheduler.running is server
    assert made.kernel.scheduler.reason_of(late.threads[0]) is WaitReason.REPLY
    assert made.block["tail"] - made.block["head"] == 1
    assert made.run().reason == "halt"
    assert (made.codes, late.exit_code, made.unaccounted()) == ([0], 0, [])
    assert made.machine.ledger.fast_replies == 0, "the client is woken the long way"


def test_a_client_that_waits_for_a_slot_is_given_that_of_a_direct_reply(rig: Rigs) -> None:
    """It begins to wait at any instruction of the reply: before the looks at the waiters, between them, after."""
    made = rig("echo", {"count": 2}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until="server_gate.direct")
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.system.run(until="server_gate.leaving")
    length = made.machine.clock.retired - start
    places = {made.kernel.guest.address(f"server_gate.{name}"): name for name in ("give_direct", "rescue_direct")}
    seen: set[str] = set()
    for address, name in places.items():
        made.machine.probe(address, lambda name=name: seen.add(name))
    for steps in range(length):
        made.system.restore(kept)
        made.machine.step(steps)
        fields = made.block
        fields["slot_waiters"] += 1  # as `take_slot` publishes it; the thread itself comes later
        made.machine.step(length - steps)
        fields["slot_waiters"] -= 1
        assert fields["free"].bit_count() + fields["unused"].bit_count() == SLOTS, steps
    assert seen == set(places.values())


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


def kill_the_client(made: Any) -> None:
    made.kernel.processes.kill(made.clients[0], 9)


def kill_the_server(made: Any) -> None:
    made.kernel.servers.kill(made.endpoint.process, "killed by the test")


def wake_the_client(made: Any) -> None:
    made.kernel.scheduler.wake(made.clients[0].threads[0])


def wake_the_server(made: Any) -> None:
    made.kernel.scheduler.wake(made.endpoint.process.threads[0])


def interrupt(made: Any) -> None:
    made.kernel.threads.interrupt(made.clients[0].threads[0])


@pytest.mark.parametrize("act", [kill_the_client, kill_the_server, wake_the_client, wake_the_server, interrupt])
def test_what_comes_from_outside_at_any_instruction_of_it_is_neither_lost_nor_harmful(
    rig: Rigs, act: Callable[[Any], None], some_of: SomeOf
) -> None:
    """From the client's gate to its return, without an interrupt that would say so: a wake-up may be all there is."""
    made = rig("echo", {"count": 3}, {"count": 3, "seed": 0x2000}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until=made.label("before"))
    first = made.kernel.scheduler.current.process
    made.clients.sort(key=lambda process: process is not first)
    numbers = [process.number for process in made.clients]
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.machine.step()
    made.system.run(until=made.label("after"))
    for steps in some_of(range(made.machine.clock.retired - start), 4):
        made.system.restore(kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.machine.step(steps)
        act(made)
        made.attention()
        assert made.run().reason == "halt", steps
        died, stopped = (100 + made.error(name) for name in ("SERVER_DIED", "INTERRUPTED"))
        allowed = {
            kill_the_client: [{9}, {0}],
            kill_the_server: [{died}, {died}],
            interrupt: [{0, stopped}, {0}],
        }.get(act, [{0}, {0}])
        assert all(code in codes for code, codes in zip(made.codes, allowed, strict=True)), (steps, made.codes)
        assert made.unaccounted() == [], steps


def test_a_thread_of_a_dying_server_that_has_ended_is_not_switched_to(rig: Rigs) -> None:
    """It is killed before it announces its sleep, does so, and ends; another thread of the server is still there."""
    made = rig("echo", {"count": 3}, THREADS=2, options={"fast_path": False})
    made.system.run(until=made.label("after"))
    made.system.run(until="next_request.empty")
    endpoint, ending = made.endpoint, made.kernel.scheduler.current
    made.kernel.servers.kill(endpoint.process, "killed by the test")
    announced = 0
    while ending.selector in made.kernel.state.tasks.threads:
        made.machine.step()
        announced |= made.block["idle"]
    assert announced >> ending.server_index & 1
    assert endpoint.process.threads
    assert not endpoint.swept
    assert made.block["idle"] == 0
    assert made.kernel.check() == []


@pytest.mark.parametrize("place", ["ipc_gate", "server_gate"])
def test_a_thread_that_is_killed_while_it_is_switched_to_does_not_come_to_ring_3(rig: Rigs, place: str) -> None:
    """No interrupt tells of the kill: the last look at the flag does."""
    made = rig("echo", {"count": 3}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until=f"{place}.turn")
    process = made.endpoint.process if place == "ipc_gate" else made.clients[0]
    thread = process.threads[0]
    made.kernel.processes.kill(process, 9)
    for _ in range(LONGEST):
        made.machine.step()
        assert made.machine.cpu.cpl == 0 or made.kernel.scheduler.running is not thread
    assert process.exit_code == 9


@pytest.mark.parametrize("place", ["ipc_gate.leaving", "server_gate.leaving"])
def test_a_thread_killed_before_the_return_of_a_direct_switch_does_not_compute_again(rig: Rigs, place: str) -> None:
    """The interrupt that tells of the kill comes at the RETF, after the last look at the flag."""
    made = rig("echo", {"count": 3}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until=place)
    process = made.clients[0] if place.startswith("server") else made.endpoint.process
    thread = process.threads[0]
    made.kernel.processes.kill(process, 9)
    made.attention()
    for _ in range(LONGEST):
        made.machine.step()
        assert made.machine.cpu.cpl == 0 or made.kernel.scheduler.running is not thread
    assert process.exit_code == 9


def test_an_interrupt_at_any_instruction_of_a_request_ends_the_wait_for_a_server_that_never_answers(rig: Rigs) -> None:
    made = rig("keeper", {"count": 1}, options={"fast_path": True})
    made.system.run(until=made.label("before"))
    number = made.clients[0].number
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.system.run(until="ipc_gate.leaving")
    for steps in range(made.machine.clock.retired - start):
        made.system.restore(kept)
        client = made.kernel.state.tasks.processes[number]
        made.machine.step(steps)
        made.kernel.threads.interrupt(client.threads[0])
        made.attention()
        assert made.run().reason == "halt", steps
        assert client.exit_code == 100 + made.error("INTERRUPTED"), steps
