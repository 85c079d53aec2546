"""For tests that make machines themselves: let `pytest --asm-cov` count their instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Machine

WATCHERS: Final[list[Callable[[Machine, Program], None]]] = []  # filled while coverage is measured


def show(machine: Machine, program: Program) -> None:
    """Count the instructions of a program on a machine that has not run yet; no effect without `--asm-cov`."""
    for watcher in WATCHERS:
        watcher(machine, program)
