"""Numbers, addresses and selectors of other processes: each is refused, and the others' state is unchanged."""

from collections.abc import Callable
from typing import Any

import pytest

HELD, FAULT = 0, 139
ATTACKS = {
    "close_of_others": HELD,
    "map_of_others": HELD,
    "unlock_of_others": HELD,
    "wait_for_others": HELD,
    "kill_others": HELD,
    "free_of_others": HELD,
    "selectors": HELD,
    "server_gate": FAULT,
    "private_operations": HELD,
    "endpoints": HELD,
    "operations": HELD,
    "free_windows": HELD,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_program_gains_nothing_by_naming_what_is_not_its_own(arena: Callable[..., Any], attack: str) -> None:
    made = arena()
    made.victim()
    made.attacker("references", list(ATTACKS).index(attack))
    assert made.run().reason == "halt"
    assert made.results == [ATTACKS[attack]], made.log
    made.assert_unharmed()
