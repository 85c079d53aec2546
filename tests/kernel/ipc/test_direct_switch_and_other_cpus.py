"""What another CPU could do between two instructions of a direct switch, done by the tests: nothing is lost."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.tasks.scheduler import TCB_STATE

Rigs = Callable[..., Any]


def meanwhile(made: Any, routine: str, text: str, change: Callable[[], None]) -> list[int]:
    """Do `change()` once, before the first instruction from a label on whose line holds `text`; return when."""
    program, done = made.kernel.guest.image, []
    start = program.address(routine)
    lines = sorted(program.lines, key=lambda line: line.address)
    at = next(line.address for line in lines if line.address >= start and text in line.text)

    def hit() -> None:
        if not done:
            done.append(made.machine.clock.retired)
            change()

    made.machine.probe(at, hit)
    return done


@pytest.fixture
def made(rig: Rigs) -> Any:
    """A client of a server with one thread, after its first request."""
    rig = rig("echo", {"count": 3}, THREADS=1, options={"fast_path": True})
    rig.system.run(until=rig.label("after"))
    return rig


def test_a_slot_that_another_cpu_takes_first_is_left_to_it(made: Any) -> None:
    def take() -> None:
        made.block["free"] = 0

    done = meanwhile(made, "ipc_gate", "lock btr dword ptr gs:[Endpoint.free]", take)
    assert made.run().reason == "halt"
    assert (made.codes, len(done)) == ([0], 1)
    assert made.kernel.slots.slot_state(made.endpoint, 1) == 0
    assert made.block["unused"] == 0xFFFF_FFFC, "the client has taken a slot of its own"


def test_a_request_that_another_cpu_posts_first_is_not_overtaken(made: Any) -> None:
    def post() -> None:
        made.machine.cpu.ebx ^= 1  # as if `head` had been read before the request was fetched

    fast = made.block["fast"]
    done = meanwhile(made, "ipc_gate.direct", "xor     ebx, gs:[Endpoint.tail]", post)
    made.system.run(until=made.label("after"))
    assert (len(done), made.block["fast"]) == (1, fast)
    assert made.run().reason == "halt"
    assert (made.codes, made.unaccounted()) == ([0], [])


def test_a_server_thread_that_another_cpu_claims_first_is_left_to_it(made: Any) -> None:
    server = made.endpoint.process.threads[0]

    def claim() -> None:
        made.block["idle"] = 0
        made.kernel.scheduler.wake(server)

    fast = made.block["fast"]
    done = meanwhile(made, "ipc_gate.direct", "lock btr dword ptr gs:[Endpoint.idle]", claim)
    made.system.run(until=made.label("after"))
    assert (len(done), made.block["fast"]) == (1, fast)
    assert made.run().reason == "halt"
    assert (made.codes, made.unaccounted()) == ([0], [])


LOOK = "cmp     dword ptr fs:[ThreadControlBlock.state]"


def test_a_server_thread_that_is_about_to_sleep_on_another_cpu_is_signalled(made: Any) -> None:
    words = made.kernel.guest.words
    state = made.endpoint.process.threads[0].tcb + TCB_STATE

    def run_on() -> None:
        words[state] = ThreadState.RUNNING

    def sleep() -> None:
        words[state] = ThreadState.BLOCKED | WaitReason.REQUEST << 16

    fast, cr3 = made.block["fast"], made.machine.cpu.cr3
    done = meanwhile(made, "ipc_gate.direct", LOOK, run_on)
    asleep = meanwhile(made, "ipc_gate.awake", "mov     ebx, [esp", sleep)
    made.system.run(until=made.label("after"))
    assert (len(done), len(asleep), made.block["fast"]) == (1, 1, fast)
    assert made.machine.cpu.cr3 == cr3
    assert made.run().reason == "halt"
    assert (made.codes, made.unaccounted()) == ([0], [])


def test_a_client_whose_server_is_killed_while_it_switches_to_it_returns_to_its_own_memory(made: Any) -> None:
    cr3 = made.machine.cpu.cr3

    def kill() -> None:
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")

    done = meanwhile(made, "ipc_gate.direct", LOOK, kill)
    made.system.run(until=made.label("after"))
    assert (len(done), made.machine.cpu.cr3) == (1, cr3)
    made.attention()
    assert made.run().reason == "halt"
    assert made.codes == [100 + made.error("SERVER_DIED")]
    assert made.kernel.check() == []


def test_a_freed_slot_that_another_cpu_takes_is_not_given_to_a_waiting_thread(made: Any) -> None:
    fields, gifts = made.block, []

    def wait() -> None:
        fields["slot_waiters"] += 1

    def take() -> None:
        gifts.append(fields["free"])
        fields["free"] = 0

    meanwhile(made, "server_gate.direct", "lock bts dword ptr gs:[Endpoint.free]", wait)
    meanwhile(made, "server_gate.rescue_direct", "lock btr dword ptr gs:[Endpoint.free]", take)
    calls = made.machine.ledger.host_calls.get("slot_give", 0)
    made.system.run(until="server_gate.leaving")
    assert gifts == [1]
    assert made.machine.ledger.host_calls.get("slot_give", 0) == calls
    fields["slot_waiters"] -= 1
    fields["free"] = 1
    assert made.run().reason == "halt"
    assert (made.codes, made.unaccounted()) == ([0], [])


def test_a_server_that_is_killed_between_its_note_and_its_look_ends(made: Any) -> None:
    server = made.endpoint.process

    def kill() -> None:
        made.kernel.servers.kill(server, "killed by the test")

    done = meanwhile(made, "server_gate.direct", "test    dword ptr [esp + OWN_BLOCK + ThreadControlBlock.flags]", kill)
    made.attention()
    assert made.run().reason == "halt"
    assert (len(done), server.threads) == (1, [])
    assert made.codes == [100 + made.error("SERVER_DIED")]
