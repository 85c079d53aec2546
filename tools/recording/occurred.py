"""What came from outside, with the positions at which it came, and its repetition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.outside import (
    Break,
    EndProcess,
    HangUp,
    Input,
    Outside,
    Plug,
    SetRegister,
    SetUp,
    Unplug,
    Write,
)
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System
from callgate.tools.recording.changes import make


class RunDiffers(RuntimeError):
    """A run was repeated and did not come to the positions of the first time: the position, and what was expected."""


class Occurred(NamedTuple):
    """Something from outside, and the position at which it came."""

    position: Position
    what: Outside


@dataclass(slots=True)
class Repetition:
    """Lets the same come from outside again."""

    system: System

    def apply(self, what: Outside) -> None:
        """Let one thing happen at the present position."""
        match what:
            case Unplug(disk):
                self.system.controller.unplug(disk)
            case Plug(disk, image):
                self.system.controller.plug(disk, self.system.media[image])
            case EndProcess(number):
                self._end_process(number)
            case _:
                apply(self.system.machine, what)

    def _end_process(self, number: int) -> None:
        process = self.system.kernel.state.tasks.processes.get(number)
        if process is None:
            raise RunDiffers(f"the run was to have process {number} ended, and there is none")
        self.system.kernel.processes.end_by_hand(process)


def apply(machine: Machine, what: Outside) -> None:
    """Let one thing happen to a machine at its present position; ValueError for what only a system with disks has."""
    match what:
        case Input(data):
            machine.serial.feed(data)
        case HangUp():
            machine.serial.hang_up()
        case Break():
            machine.serial.send_break()
        case Write(physical, data):
            machine.write_physical(physical, data)
        case SetRegister(name, value):
            try:
                machine.set_register(name, value)
            except ValueError as error:
                raise RunDiffers(f"the run was to have a register changed that cannot be: {error}") from None
        case SetUp():
            make(machine, what)
        case _:
            raise ValueError(f"{what}: the machine has no disks")
