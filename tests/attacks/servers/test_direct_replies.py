"""Servers that reply with what is not theirs, while their client waits at the gate and nothing else is to be done."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.selectors import SLOTS

Rigs = Callable[..., Any]
GENERATION = 0x100
LONGEST = 2000  # instructions from a gate to ring 3


def at_reply(rig: Rigs, *clients: dict[str, Any], **defines: int) -> Any:
    """Return a rig that stands in a server's gate, about to look whether the reply can go straight back."""
    made = rig("echo", *(clients or ({"count": 4},)), options={"fast_path": True}, **{"THREADS": 1, **defines})
    made.system.run(until=made.label("after"))
    made.system.run(until="server_gate.direct")
    return made


def to_ring_3(made: Any) -> int:
    """Run to ring 3; return the replies that went straight back on the way."""
    before = made.machine.ledger.fast_replies
    for _ in range(LONGEST):
        made.machine.step()
        if made.machine.cpu.cpl == 3:
            return int(made.machine.ledger.fast_replies - before)
    raise AssertionError("no thread comes back to ring 3")


def test_a_reply_with_its_own_handle_goes_straight_back(rig: Rigs) -> None:
    made = at_reply(rig)
    assert to_ring_3(made) == 1
    assert made.run().reason == "halt"
    assert (made.codes, made.block["bad_replies"]) == ([0], 0)


@pytest.mark.parametrize("change", [-GENERATION, GENERATION, 1, SLOTS, 1 << 31])
def test_a_reply_with_another_handle_is_refused(rig: Rigs, change: int) -> None:
    """That of the request before in this slot, of the next one, of another slot, and of the same one but for a bit."""
    made = at_reply(rig)
    cpu, refused = made.machine.cpu, made.block["bad_replies"]
    cpu.ebx = cpu.ebx + change & 0xFFFF_FFFF
    assert to_ring_3(made) == 0
    assert made.kernel.scheduler.running.process is made.endpoint.process
    assert (cpu.eflags & 1, cpu.eax) == (1, ErrorCode.BAD_HANDLE)
    assert made.block["bad_replies"] == refused + 1


def test_a_reply_to_a_request_that_another_thread_has_kept_is_refused(rig: Rigs) -> None:
    """One thread keeps its request and waits for the next; another, which is given that, answers the first."""
    made = rig("echo", {"count": 4}, options={"fast_path": True}, THREADS=2)
    cpu, system = made.machine.cpu, made.system
    system.run(until=made.label("after"))
    system.run(until="ipc_gate.turn")
    system.run(until="server_gate")
    kept, keeper = cpu.ebx, made.kernel.scheduler.running
    cpu.eax = ServerCall.WAIT
    system.run()
    made.block["idle"] &= ~(1 << keeper.server_index)  # as if it had something else to do
    made.start_client(count=4, seed=0x2000)
    made.attention()
    system.run(until="server_gate.direct")
    thief = made.kernel.scheduler.running
    assert thief.process is keeper.process
    assert thief is not keeper
    assert cpu.ebx != kept
    cpu.ebx, refused = kept, made.block["bad_replies"]
    assert to_ring_3(made) == 0
    assert made.kernel.scheduler.running is thief
    assert made.block["bad_replies"] == refused + 1
