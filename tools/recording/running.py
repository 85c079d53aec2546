"""Running a machine up to a position of a run that has been."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.core.errors import KernelPanic
from callgate.tools.recording.occurred import RunDiffers

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine
    from callgate.kernel.machine.observation.position import Position


def run_to(machine: Machine, goal: Position) -> None:
    """Run up to a position; RunDiffers if the run does not pass it, KeyboardInterrupt at Ctrl-C."""
    machine.runner.settle()
    while machine.position < goal:
        before = machine.position
        try:
            stop = machine.run(goal=goal)
        except KernelPanic:
            stop = None
        machine.runner.settle()
        if stop is not None and stop.reason == "interrupted":
            raise KeyboardInterrupt
        if machine.position == before:
            break
    if machine.position[:2] != goal[:2]:  # some virtual time may have passed
        raise RunDiffers(f"a repetition was to come to {goal} and is at {machine.position}")
