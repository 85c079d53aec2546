"""Handoffs of the CPU that machine code makes without asking policy, and the moments at which it must ask."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.selectors import SELECTOR_KERNEL_DATA
from callgate.kernel.abi.thread import KernelWords, ThreadState
from callgate.kernel.core.control_block import word
from callgate.kernel.core.records import Thread
from callgate.kernel.tasks.fpu import CR0_TS
from callgate.kernel.tasks.scheduler import TCB_STATE
from callgate.tools.bench.ipc import Bench

Rigs = Callable[..., Any]
HANDOFFS = ("handoff_for_reply", "handoff_for_request", "handoff_for_file")
INTERRUPT_FLAG = 1 << 9
ARM_TIMER = word(KernelWords, "preempt") + 1


@pytest.fixture(scope="module")
def before() -> Iterator[Callable[[str], Bench]]:
    """A system with one client of a null server, just before one of the handoffs, and without direct switches."""
    bench = Bench(clients=1)
    take_the_long_way(bench)
    bench.system.run(fuel=20_000)
    kept = {}
    for routine in HANDOFFS[:2]:
        bench.system.run(until=bench.kernel.guest.address(routine))
        kept[routine] = bench.system.snapshot()

    def stand(routine: str) -> Bench:
        bench.system.restore(kept.get(routine, kept[HANDOFFS[0]]))
        bench.system.machine.cpu.eip = bench.kernel.guest.address(routine)  # the null server is asked for no file
        return bench

    yield stand
    stand(HANDOFFS[0])  # sound again, whatever the tests have done to it
    bench.close()


def take_the_long_way(bench: Bench) -> None:
    """Jump over the direct switch, in both directions."""
    address, machine = bench.kernel.guest.address, bench.system.machine
    for place, other in (("ipc_gate.direct", "ipc_gate.post"), ("server_gate.direct", "server_gate.late")):
        distance = address(other) - address(place) - 5
        machine.ram.write(address(place) - KERNEL_BASE, b"\xe9" + distance.to_bytes(4, "little", signed=True))


def target(bench: Bench) -> Thread:
    return bench.kernel.state.tasks.threads[bench.system.machine.cpu.eax & 0xFFFF]


def pass_handoff(bench: Bench) -> tuple[int, int, int]:
    """Run to the next switch; return the fast handoffs and the host calls made, and the selector that is next."""
    machine = bench.system.machine
    earlier = machine.ledger.counts()
    bench.system.run(until=bench.kernel.guest.address("switch_resume"))
    spent = machine.ledger.counts() - earlier
    return spent.fast_handoffs, spent.host_calls.get("handoff", 0), bench.kernel.guest.kernel_words["next"]


@pytest.mark.parametrize(
    ("routine", "reason"),
    list(zip(HANDOFFS, (WaitReason.REPLY, WaitReason.REQUEST, WaitReason.FILE), strict=True)),
)
def test_a_handoff_to_a_sleeping_thread_asks_policy_nothing(
    before: Callable[[str], Bench], routine: str, reason: WaitReason
) -> None:
    bench = before(routine)
    scheduler, giver, taker = bench.kernel.scheduler, bench.kernel.scheduler.current, target(bench)
    waits = bench.system.machine.ledger.blocking_waits
    assert pass_handoff(bench) == (1, 0, taker.selector)
    assert (scheduler.state_of(giver), scheduler.reason_of(giver)) == (ThreadState.BLOCKED, reason)
    assert (scheduler.state_of(taker), scheduler.current) == (ThreadState.RUNNING, taker)
    assert bench.system.machine.ledger.blocking_waits - waits == (reason is not WaitReason.REQUEST)


def signal_the_giver(bench: Bench) -> None:
    bench.kernel.scheduler.wake(bench.kernel.scheduler.current)


def let_it_ask(bench: Bench) -> None:
    bench.kernel.scheduler.ask_always(always=True)


def wake_another(bench: Bench) -> None:
    threads = bench.kernel.state.tasks.threads.values()
    bench.kernel.scheduler.wake(next(thread for thread in threads if thread.name == "releases"))


def let_one_sleep(bench: Bench) -> None:
    threads = bench.kernel.state.tasks.threads.values()
    ageing = next(thread for thread in threads if thread.name == "ageing")
    bench.kernel.scheduler.sleep_until(ageing, bench.system.machine.clock.now + 10_000)


def use_the_fpu(bench: Bench) -> None:
    words, cpu = bench.kernel.guest.kernel_words, bench.system.machine.cpu
    words["fpu_owner"] = words["current"]
    words.words[words.base + ARM_TIMER] |= 1 << 16
    cpu.cr0 &= ~CR0_TS


MOMENTS = (signal_the_giver, let_it_ask, wake_another, let_one_sleep, use_the_fpu)


@pytest.mark.parametrize("routine", HANDOFFS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_policy_is_asked_where_there_is_something_to_choose_or_to_arm(
    before: Callable[[str], Bench], routine: str, moment: Callable[[Bench], None]
) -> None:
    bench = before(routine)
    moment(bench)
    fast, asked, _ = pass_handoff(bench)
    if moment is signal_the_giver:  # whose wait returns at once: the switch is a later one
        assert asked == 1
    else:
        assert (fast, asked) == (0, 1)
    bench.kernel.machine.cpu.cr0 |= CR0_TS if moment is use_the_fpu else 0
    replies = bench.kernel.slots.block(bench.endpoint)["replies"]
    bench.system.run(fuel=10_000)
    assert bench.kernel.slots.block(bench.endpoint)["replies"] > replies + 10
    assert bench.kernel.check() == []


@pytest.mark.parametrize("routine", HANDOFFS)
def test_a_wake_up_from_outside_at_any_instruction_of_a_handoff_ends_its_wait(
    before: Callable[[str], Bench], routine: str
) -> None:
    """No interrupt tells of it: either the handoff sees it, or it finds the thread blocked."""
    bench = before(routine)
    machine = bench.system.machine
    start = machine.clock.retired
    bench.system.run(until=bench.kernel.guest.address("switch_resume"))
    for steps in range(machine.clock.retired - start):
        bench = before(routine)
        scheduler = bench.kernel.scheduler
        giver = scheduler.current
        machine.step(steps)
        scheduler.wake(giver)
        bench.system.run(until=bench.kernel.guest.address("switch_resume"))
        asleep = scheduler.state_of(giver) is ThreadState.BLOCKED
        assert not (asleep and scheduler.signalled(giver)), steps


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("routine", HANDOFFS)
@pytest.mark.parametrize("how", ["dead", "descriptor gone", "running"])
def test_a_thread_that_does_not_sleep_is_not_switched_to(
    before: Callable[[str], Bench], routine: str, how: str
) -> None:
    bench = before(routine)
    taker, kernel = target(bench), bench.kernel
    if how == "descriptor gone":
        kernel.gdt.clear(taker.selector)
        del kernel.state.tasks.threads[taker.selector]
    else:
        state = ThreadState.DEAD if how == "dead" else ThreadState.RUNNING
        kernel.guest.words[taker.tcb + TCB_STATE] = state
    idle = kernel.state.scheduler.idle
    assert idle is not None
    assert pass_handoff(bench) == (0, 1, idle.selector)


def to_interrupts(bench: Bench) -> tuple[int, int]:
    """Run until interrupts are on; return DS and ES there."""
    cpu = bench.system.machine.cpu
    bench.system.machine.step(8)
    while not cpu.eflags & INTERRUPT_FLAG:
        bench.system.machine.step()
    assert cpu.cpl == 0
    return cpu.ds, cpu.es


@pytest.mark.parametrize("routine", HANDOFFS)
def test_a_thread_that_goes_on_has_no_selector_of_another_which_may_end(
    before: Callable[[str], Bench], routine: str
) -> None:
    """It may be interrupted at once, and loads its segment registers again when it goes on."""
    assert to_interrupts(before(routine)) == (SELECTOR_KERNEL_DATA, SELECTOR_KERNEL_DATA)


@pytest.mark.parametrize("routine", HANDOFFS)
def test_a_thread_whose_wait_returns_at_once_has_no_selector_of_another_which_may_end(
    before: Callable[[str], Bench], routine: str
) -> None:
    bench = before(routine)
    giver = bench.kernel.scheduler.current
    signal_the_giver(bench)
    assert to_interrupts(bench) == (SELECTOR_KERNEL_DATA, SELECTOR_KERNEL_DATA)
    assert bench.kernel.scheduler.current is giver


@pytest.mark.thorough(one_in=15)
@pytest.mark.parametrize("seed", range(60))
def test_clients_and_servers_see_the_same_whether_or_not_policy_is_asked(rig: Rigs, seed: int) -> None:
    """Checking clients of one server with two threads: preempted and interrupted at instants that a seed gives."""
    random = Random(seed)
    many = random.choice([1, 1, 2, 5])
    clients = [{"count": random.randrange(10, 40), "seed": 0x1000 * (index + 1)} for index in range(many)]
    threads, instants = random.choice([1, 2, 3]), [random.randrange(50, 2000) for _ in range(100)]
    found = []
    for fast in (True, False):
        made = rig("echo", *clients, THREADS=threads, options={"fast_path": fast})
        for fuel in (*instants, 5_000_000):
            if made.run(fuel=fuel).reason != "fuel":
                break
            made.kernel.scheduler.request_yield()
            made.attention()
        fields = made.block
        found.append((made.codes, made.requests, fields["replies"], fields["bad_replies"], made.unaccounted()))
        calls = made.machine.ledger.host_calls
        fast_ones = made.machine.ledger.fast_handoffs
        assert (fast_ones > 0 or many > 1) if fast else (fast_ones == 0 and calls["handoff"] > 0)
    assert found[0] == found[1]
    assert set(found[0][0]) == {0}
