"""The kernel is asked to read or write for a program what the program may not: it refuses, and prints nothing."""

from collections.abc import Callable
from typing import Any

import pytest

HELD = 0
ATTACKS = (
    "write_out_kernel",
    "path_from_kernel",
    "command_line_from_kernel",
    "volume_to_kernel",
    "process_to_kernel",
    "ipc_to_kernel",
    "ledger_to_kernel",
    "thread_in_kernel",
    "handler_in_kernel",
    "long_path",
    "nested_path",
    "stack_in_kernel",
    "segments",
    "flags",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_kernel_does_for_nobody_what_he_may_not_do_himself(arena: Callable[..., Any], attack: str) -> None:
    made = arena()
    made.victim()
    made.attacker("deputy", ATTACKS.index(attack))
    assert made.run().reason == "halt"
    assert made.results == [HELD], made.log
    assert made.output == b""
    made.assert_unharmed()
