"""A booted system as a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.system import System
from callgate.kernel.watching.snapshots.system_snapshots import under_way
from callgate.tools.debugger.target.target import POWER_ON, Target
from callgate.tools.recording import Repetition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callgate.kernel.machine import Stop
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.kernel.machine.snapshot import Keep
    from callgate.kernel.watching.snapshots.system_snapshots import SystemSnapshot
    from callgate.tools.debugger.target.target import Once
    from callgate.tools.recording import Answer

Subject = System | Target
"""What histories, debuggees and workbenches are made of."""


class Booted:
    """A system: its kernel's state is kept with the machine's, and its log is told once."""

    has_kernel = True
    unwritten: str = POWER_ON

    def __init__(self, system: System) -> None:
        self.system = system
        self.machine = system.machine
        self.repetition = Repetition(system)

    def snapshot(self, keep: Keep) -> SystemSnapshot:
        """Keep the whole state; NotQuiescent in the middle of a request."""
        return self.system.snapshot(keep)

    def restore(self, kept: SystemSnapshot) -> None:
        """Go back to a state that was kept."""
        self.system.restore(kept)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the copies of records and hosted servers that snapshots have."""
        return self.system.snapshots.total.bytes

    @property
    def most_kept_bytes(self) -> int:
        """Bytes that they do not exceed, unless the last ones are exceptionally large."""
        return self.system.snapshots.total.most

    def quiet(self) -> bool:
        """Whether policy is in the middle of nothing."""
        return under_way(self.system.kernel) is None

    def tell_once(self, once: Once) -> None:
        """Let the guest's output and the kernel's log come once."""
        serial, log = self.machine.serial, self.system.kernel.log
        serial.output = once(serial.output)
        log.write, log.write_urgent = once(log.write), once(log.write_urgent)

    def ended(self) -> Stop | None:
        """The system says itself that it has ended, whenever it is run."""
        return None

    def answers(self) -> Sequence[Answer]:
        """None: host calls are answered by policy, which is repeated."""
        return ()

    @property
    def exit_code(self) -> int | None:
        """The status with which the system has ended."""
        return self.system.exit_code

    def close(self) -> None:
        """Close the system."""
        self.system.close()

    def repeat(self, what: Outside) -> None:
        """Let something come from outside again."""
        self.repetition.apply(what)


def target_of(subject: Subject) -> Target:
    """Return a system as a target, and a target as it is."""
    return Booted(subject) if isinstance(subject, System) else subject
