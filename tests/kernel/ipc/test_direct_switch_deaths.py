"""Deaths, wake-ups and interrupts at each instruction of a direct switch."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.thread import GateFrame

Rigs = Callable[..., Any]
SomeOf = Callable[[Iterable[int], int], list[int]]
CLIENTS = ({"program": "client", "count": 1}, {"program": "batcher", "entries": 2, "count": 1})
LONGEST = 2000  # instructions from a gate to ring 3, switches to other threads included


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
@pytest.mark.parametrize("same", [True, False], ids=["with the segments of", "with other segments than"])
def test_a_thread_killed_before_the_return_of_a_direct_switch_does_not_compute_again(
    rig: Rigs, place: str, *, same: bool
) -> None:
    """The interrupt that tells of the kill comes at the RETF, after the last look at the flag."""
    made = rig("echo", {"count": 3}, THREADS=1, options={"fast_path": True})
    made.system.run(until=made.label("after"))
    made.system.run(until=place.replace("leaving", "arrived"))
    process = made.clients[0] if place.startswith("server") else made.endpoint.process
    thread = process.threads[0]
    top = made.kernel.threads.block(thread)["esp0"]
    frame = made.kernel.threads.overlay(thread, GateFrame, top - size_of(GateFrame))
    frame["es"] = made.machine.cpu.es if same else 0
    made.system.run(until=place)
    made.kernel.processes.kill(process, 9)
    made.attention()
    for _ in range(LONGEST):
        made.machine.step()
        assert made.machine.cpu.cpl == 0 or made.kernel.scheduler.running is not thread
    assert process.exit_code == 9


@pytest.mark.parametrize("client", CLIENTS, ids=["one", "two"])
def test_an_interrupt_at_any_instruction_of_a_request_ends_the_wait_for_a_server_that_never_answers(
    rig: Rigs, client: dict[str, Any]
) -> None:
    """Of one request at the gate, and of a batch of two, whose client waits within the kernel."""
    made = rig("keeper", client, options={"fast_path": True})
    made.system.run(until="hand_over_request" if "entries" in client else made.label_of_client("before"))
    number = made.clients[0].number
    kept = made.system.snapshot()
    start = made.machine.clock.retired
    made.system.run(until="ipc_gate.leaving")
    for steps in range(made.machine.clock.retired - start):
        made.system.restore(kept)
        process = made.kernel.state.tasks.processes[number]
        made.machine.step(steps)
        made.kernel.threads.interrupt(process.threads[0])
        made.attention()
        assert made.run().reason == "halt", steps
        assert process.exit_code == 100 + made.error("INTERRUPTED"), steps
