"""What a CPU refuses and an engine may execute: the program ends, and learns nothing of the kernel or of the host."""

from collections.abc import Callable
from typing import Any

import pytest

HELD, FAULT = 0, 139
ATTACKS = {
    "mxcsr_of_kernel": (FAULT, "#PF page fault: read of"),
    "lock_of_kernel": (FAULT, "#UD invalid opcode"),
    "xop": (FAULT, "#UD invalid opcode"),
    "misaligned_load": (FAULT, "#GP general protection, error code 0x0000"),
    "misaligned_store": (FAULT, "#GP general protection, error code 0x0000"),
    "long_strings": (HELD, ""),
    "untranslatable": (FAULT, "#UD invalid opcode"),
}
Arenas = Callable[..., Any]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_cpu_refuses_ends_the_program_that_executes_it(arena: Arenas, attack: str) -> None:
    made = arena()
    made.victim()
    code, report = ATTACKS[attack]
    address = made.kernel.guest.address("trap")  # what lies there has reserved bits of MXCSR
    made.attacker("refused", list(ATTACKS).index(attack), bytes(3) + address.to_bytes(4, "little"))
    assert made.run().reason == "halt"
    assert made.results == [code], made.log
    assert code == HELD or any("ended by" in line and report in line for line in made.log), made.log
    if attack == "untranslatable":
        place = made.label("refused", "untranslatable_place")
        assert any(f"at {place:#010x}" in line for line in made.log), made.log
    made.assert_unharmed()


def test_an_instruction_where_another_program_has_a_division_is_refused_as_anywhere_else(arena: Arenas) -> None:
    """RDRAND would bring randomness of the host into the run."""
    made = arena()
    made.attacker("successor", RANDOM=0)
    assert made.run().reason == "halt"
    made.attackers.append(made.start("successor", RANDOM=1))
    made.system.machine.pic.lower_line(4)
    made.system.machine.pic.raise_line(4)
    assert made.run().reason == "halt"
    assert made.results == [HELD, FAULT], made.log
    assert any("#UD invalid opcode" in line for line in made.log), made.log
    made.assert_unharmed()
