"""Memory that is no longer mapped, or is mapped read-only: a forbidden access is a fault, whatever the TLB holds."""

from collections.abc import Callable
from typing import Any

import pytest

HELD, FAULT = 0, 139
ATTACKS = {
    "read_after_free": "read of 0x100",
    "write_after_free": "write of 0x100",
    "other_thread_after_free": "read of 0x100",
    "given_again": None,
    "directory_after_unlock": "read of 0x4",
    "file_after_close": "read of 0x4",
    "page_after_close": "read of 0x4",
    "write_directory": "write of 0x4",
    "write_file": "write of 0x4",
    "write_file_page": "write of 0x4",
    "run_heap": "fetch of 0x100",
    "run_stack": "fetch of 0xbfffe",
    "run_file": "fetch of 0x4",
    "below_the_stack": "write of 0xbffeeffc",
    "arguments": "write of 0xbff00000",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_access_to_memory_that_the_program_may_not_use_in_this_way_is_a_page_fault(
    arena: Callable[..., Any], attack: str
) -> None:
    made = arena()
    made.victim()
    made.attacker("stale", list(ATTACKS).index(attack))
    assert made.run().reason == "halt"
    reason = ATTACKS[attack]
    assert made.results == [HELD if reason is None else FAULT], made.log
    assert reason is None or any(f"#PF page fault: {reason}" in line for line in made.log), made.log
    made.assert_unharmed()


def test_no_program_finds_what_another_one_left_in_memory(arena: Callable[..., Any]) -> None:
    made = arena(memory=16 << 20)
    made.attacker("poisoner")
    assert made.run().reason == "halt"
    assert made.results == [HELD]
    made.attackers.append(made.start("collector"))
    made.system.machine.pic.raise_line(4)
    made.run()
    assert made.results == [HELD, HELD]
    made.assert_unharmed()
