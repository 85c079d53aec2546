"""Divisions that the engine has its host make, which ends the host's process with a signal: #DE, as on a CPU."""

from collections.abc import Callable
from typing import Any

import pytest

HELD, FAULT = 0, 139
ATTACKS = {
    "by_register": "#DE divide error",
    "by_memory": "#DE divide error",
    "by_short_register": "#DE divide error",
    "by_word": "#DE divide error",
    "with_prefixes": "#DE divide error",
    "by_two": "#DE divide error",
    "by_kernel": "#PF page fault: read of 0xc0100000",
    "by_nothing": "#PF page fault: read of 0x30000000",
    "in_a_loop": "#DE divide error",
    "honest": None,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_smallest_number_by_minus_one_ends_the_program_and_not_the_host(
    arena: Callable[..., Any], attack: str
) -> None:
    made = arena()
    made.victim()
    made.attacker("divider", ATTACK=list(ATTACKS).index(attack))
    assert made.run().reason == "halt"
    reason = ATTACKS[attack]
    assert made.results == [HELD if reason is None else FAULT], made.log
    assert reason is None or any(f"ended by {reason}" in line for line in made.log), made.log
    made.assert_unharmed()
