"""Servers that use their gate for resources of others: each call is refused, and the server still serves."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.errors import ErrorCode

HELD = 0
ATTACKS = (
    "blocks_without_disk",
    "blocks_of_others",
    "versions_of_others",
    "hosted_step",
    "unknown_calls",
    "replies_to_nothing",
    "free_messages",
    "poll",
    "answer_ahead",
    "crowd",
    "look_early",
    "ask_itself",
)
ENDED = 100 + ErrorCode.SERVER_DIED
VOLUME = 1  # the ROM has number 0

Arenas = Callable[..., Any]


def endpoint(arena: Arenas, attack: str) -> Any:
    """Make an arena with the server, a client of it and a victim."""
    made = arena()
    made.wanted.append(lambda: made.server("endpoint", "evil", ATTACK=ATTACKS.index(attack), VOLUME=VOLUME))
    made.victim()
    made.attacker("asker", VOLUME)
    made.attacker("asker", VOLUME)
    return made


@pytest.mark.parametrize("attack", ATTACKS[:10])
def test_a_server_gains_nothing_from_its_gate_and_goes_on_serving(arena: Arenas, attack: str) -> None:
    made = endpoint(arena, attack)
    assert made.run().reason == "halt"
    assert made.results == [HELD, HELD], made.log
    assert not any("process" in line for line in made.log), made.log
    made.assert_unharmed()


def test_a_server_that_looks_for_requests_of_others_ends_by_a_page_fault(arena: Arenas) -> None:
    made = endpoint(arena, "look_early")
    assert made.run().reason == "halt"
    assert made.results == [ENDED, ENDED], made.log
    assert any("#PF page fault: read of 0xa0020000, page not present" in line for line in made.log), made.log
    made.assert_unharmed()


def test_a_server_that_waits_for_its_own_answer_can_be_ended_and_its_client_has_an_error(arena: Arenas) -> None:
    made = endpoint(arena, "ask_itself")
    assert made.run().reason == "halt"
    assert made.results == [None, None], made.log
    server = made.kernel.state.endpoints.by_number[VOLUME].process
    made.kernel.servers.kill(server, "ended by the test")
    made.system.machine.pic.raise_line(4)
    made.run()
    assert made.results == [ENDED, ENDED], made.log
    made.assert_unharmed()


OBJECTS = {
    "the kernel's memory": (0xC000_0000, 0x1000),
    "a page beside its own": (0x1000, 0x1000),
    "an address that is not a page's": (0xBFFF_E001, 0x1000),
    "a size around the end of the address space": (0xBFFF_E000, 0xFFFF_F000),
    "a range from its own stack to what lies above it": (0xBFFF_E000, 0x2000),
    "more pages than a message holds addresses": (0x1000_0000, 507 * 0x1000),
    "its message page": (0xA002_0000, 0x1000),
}


@pytest.mark.parametrize("what", OBJECTS)
def test_a_server_cannot_give_what_it_does_not_have(arena: Arenas, what: str) -> None:
    made = arena()
    base, size = OBJECTS[what]
    made.wanted.append(lambda: made.server("giver", "evil", BASE=base, BYTES=size))
    made.victim()
    made.attacker("asker", VOLUME)
    assert made.run().reason == "halt"
    assert made.results == [100 + ErrorCode.BAD_REPLY], made.log
    assert any("reply refused: object" in line for line in made.log), made.log
    made.assert_unharmed()
