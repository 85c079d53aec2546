"""A request of a rig, to be interrupted at each of its instructions."""

from typing import Any


class Stepper:
    """A rig that stands before its first client's second request, restored for each try.

    The client's program has the labels "before" and "after" at its far CALL.
    """

    def __init__(self, made: Any) -> None:
        self.rig = made
        self.end = made.label_of_client("after")
        made.system.run(until=self.end)
        made.system.run(until=made.label_of_client("before"))
        self.numbers = [process.number for process in made.clients]
        self.kept = made.system.snapshot()
        self.first = made.kernel.scheduler.current

    def after(self, steps: int) -> Any:
        """Restore, and run a number of instructions; return the rig."""
        made = self.rig
        made.system.restore(self.kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in self.numbers]
        made.machine.step(steps)
        return made

    def length(self) -> int:
        """Return the number of instructions from the gate to the one after it."""
        made = self.after(0)
        start = made.machine.clock.retired
        made.machine.step()
        made.system.run(until=self.end)
        return int(made.machine.clock.retired - start)
