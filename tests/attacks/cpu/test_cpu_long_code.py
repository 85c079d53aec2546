"""Instructions that the engine gets wrong are found at every place, also after much straight code."""

from collections.abc import Callable
from typing import Any

import pytest

FAULT = 139


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("pad", [0, 8, 2048, 4088])
def test_a_far_call_after_pages_of_straight_code_pushes_with_the_rights_of_ring_3(
    arena: Callable[..., Any], pad: int
) -> None:
    made = arena()
    made.victim()
    made.attacker("long_code", PAD=pad)
    assert made.run().reason == "halt"
    assert made.results == [FAULT], made.log
    assert any("#PF page fault: write of 0xc0000ffc, protection" in line for line in made.log), made.log
    made.assert_unharmed()


def test_a_far_call_after_an_instruction_that_the_decoder_does_not_know_pushes_with_the_rights_of_ring_3(
    arena: Callable[..., Any],
) -> None:
    made = arena()
    made.victim()
    made.attacker("undecoded")
    assert made.run().reason == "halt"
    assert made.results == [FAULT], made.log
    assert any("#PF page fault: write of 0xc0000ffc, protection" in line for line in made.log), made.log
    made.assert_unharmed()
