"""Repeating a failed test, to see its last instructions: tests that pass do not pay for them."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from callgate.tools.asmtest.board import board
from callgate.tools.asmtest.board.result import RoutineError

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.operations import Operations


def retrace(cpu: Operations, count: int) -> list[int]:
    """Repeat the journal up to the last call; return the addresses of that call's last instructions."""
    steps = list(cpu.journal)
    calls = [index for index, step in enumerate(steps) if step[0] == cpu.run_routine]
    if not calls or cpu.last is None:
        return []
    kept, retired, number = (cpu.last, cpu.before), cpu.last.instructions, cpu.calls
    cpu.reset()
    for function, arguments, options in steps[: calls[-1]]:
        with suppress(RoutineError):  # the test has handled it, and went on
            function(*arguments, **options)
    _, (routine, options), _ = steps[calls[-1]]
    values = {key: value for key, value in options.items() if key not in ("fuel", "stack")}
    cpu.begin(routine, options["stack"], values)
    addresses = step(cpu, retired, count)
    cpu.last, cpu.before = kept
    cpu.calls = number
    cpu.journal[:] = steps
    return addresses


def step(cpu: Operations, retired: int, count: int) -> list[int]:
    """Run all but the last instructions, then these one by one; return their addresses."""
    if retired > count:
        cpu.run(retired - count)
    addresses: deque[int] = deque(maxlen=count + 1)
    for _ in range(min(retired, count) + 1):
        addresses.append(cpu.machine.cpu.eip)
        if cpu.run(1).reason != "fuel":
            break
    return [address for address in addresses if address != board.RETURN]
