"""Servers in assembly that break the rules of the gate: they are not believed, and nothing is lost."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import PAGE_SIZE, USER_STACK_TOP
from callgate.kernel.abi.message import Endpoint, SlotState

Rigs = Callable[..., Any]
ATTACKS = (
    *("honest", "reply_twice", "forge_handles", "write_afterwards", "scribble", "promise_data", "give_kernel_pages"),
    *("give_own_message", "give_sectors", "give_too_many", "call_nonsense", "give_gladly", "keep", "answer_kept"),
    *("replay", "give_zeros"),
)
HONEST = {"operation": 0, "count": 3, "seed": 0x7000}


def attack(rig: Rigs, name: str, **client: int) -> Any:
    """Run one client that provokes an attack, and an honest one after it."""
    made = rig("hostile", {"operation": ATTACKS.index(name), **client}, HONEST)
    assert made.run().reason == "halt"
    return made


@pytest.mark.parametrize(
    ("name", "refused"), [("honest", 0), ("reply_twice", 1), ("forge_handles", 12), ("call_nonsense", 0)]
)
def test_a_handle_can_answer_once_and_only_its_own_request(rig: Rigs, name: str, refused: int) -> None:
    made = attack(rig, name, count=2)
    assert made.codes == [0, 0]
    assert made.block["bad_replies"] == 2 * refused
    assert made.unaccounted() == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("promise_data", "4294967295 bytes of data"),
        ("give_kernel_pages", "object page 0xc0000000 is not the server's own"),
        ("give_own_message", "is not the server's own"),
        ("give_sectors", "sector 0 lies outside the partition"),
        ("give_too_many", "507 sector entries"),
        ("give_zeros", "sectors for a request that does not read a file"),
    ],
)
def test_a_reply_with_forbidden_content_is_an_error_of_the_server(rig: Rigs, name: str, reason: str) -> None:
    made = attack(rig, name)
    assert made.codes == [100 + made.error("BAD_REPLY"), 0]
    assert any(reason in line for line in made.log), made.log
    assert made.block["bad_replies"] == 1
    assert made.unaccounted() == []


def test_a_handle_is_invalid_for_the_next_request_in_its_slot(rig: Rigs) -> None:
    made = attack(rig, "replay", count=4)
    assert made.codes == [0, 0]
    assert made.block["bad_replies"] == 3
    assert made.unaccounted() == []


def test_a_handle_beyond_the_slots_is_refused_whatever_memory_holds_there(rig: Rigs) -> None:
    """What lies there counts replies and waits: a server and its clients bring it to any value, after long enough."""
    made = rig("echo", {"count": 1}, THREADS=1)
    made.system.run(until=made.label("before"))
    made.system.run(until="server_gate")
    # As if all that follows the handles, seen as one more slot of them, were what the checks want to see.
    beyond = 0x28
    handles, state = offset_of(Endpoint, "handles"), offset_of(Endpoint, "state")
    block, ram = made.endpoint.block, made.machine.ram
    assert handles + 4 * beyond == offset_of(Endpoint, "replies")
    made.block["replies"] = beyond
    ram.view(block + state + beyond, 1)[0] = SlotState.SERVED
    selector = made.endpoint.servers[0].to_bytes(2, "little")
    ram.view(block + offset_of(Endpoint, "server_of") + 2 * beyond, 2)[:] = selector
    made.machine.cpu.ebx = beyond
    made.run()
    assert made.block["bad_replies"] == 1


def test_a_request_is_answered_only_by_the_thread_that_was_given_it(rig: Rigs) -> None:
    made = rig("thief", {"count": 4})
    made.system.run(until=made.label("exit"))
    made.system.run(fuel=20_000)
    assert made.codes == [0]
    assert made.block["bad_replies"] == 4
    assert made.unaccounted() == []


def test_a_server_cannot_touch_the_page_after_its_reply(rig: Rigs) -> None:
    made = rig("hostile", {"operation": ATTACKS.index("write_afterwards")})
    made.run()
    # The client has the answer that was in the page when the gate was called.
    assert made.codes == [0]
    assert any("write of" in line and "page not present" in line for line in made.log), made.log
    assert made.endpoint.dead
    assert made.unaccounted() == []


def test_a_page_full_of_garbage_changes_neither_privilege_nor_interrupts(rig: Rigs) -> None:
    made = attack(rig, "scribble")
    # Carry is an arithmetic flag and the server's to choose: the client sees a failure with EAX = -1.
    assert made.codes[0] == 100 - 1
    assert made.codes[1] == 0
    assert made.unaccounted() == []


def test_pages_given_to_a_client_that_asked_for_none_are_released(rig: Rigs) -> None:
    made = attack(rig, "give_gladly", count=5)
    assert made.codes == [0, 0]
    given = made.endpoint.process.pages[USER_STACK_TOP - PAGE_SIZE]
    assert made.kernel.memory.low.holders[given] == 1, "the server alone has it again"
    assert made.unaccounted() == []


def test_a_client_that_dies_while_its_request_is_kept_leaves_the_slot_to_the_reply(rig: Rigs) -> None:
    made = rig("hostile", {"operation": ATTACKS.index("keep")}, HONEST)
    made.run()
    assert made.codes == [None, 0]
    made.kernel.processes.kill(made.clients[0], 9)
    made.attention()
    made.run()
    assert made.codes == [9, 0]
    assert made.block["aborted"] == 1
    # The server still has the page; its reply, late as it is, gives the slot back.
    assert made.unaccounted() == ["rig: slots 0x1"]
    late = made.start_client(operation=ATTACKS.index("answer_kept"))
    made.attention()
    made.run()
    assert late.exit_code == 0
    assert made.block["bad_replies"] == 0
    assert made.unaccounted() == []
