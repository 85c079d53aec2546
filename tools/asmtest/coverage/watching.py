"""For tests that make machines themselves: have `pytest --asm-cov` count what they execute."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Machine

WATCHERS: Final[list[Callable[[Machine, Program], None]]] = []  # filled while coverage is measured


def show(machine: Machine, program: Program) -> None:
    """Count what a machine that has not run yet will execute of a program; nothing happens without `--asm-cov`."""
    for watcher in WATCHERS:
        watcher(machine, program)
