"""The interface that a history needs of what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine, Stop
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.kernel.machine.snapshot import Keep, Snapshot
    from callgate.kernel.system import System
    from callgate.tools.recording import Answer

Told = TypeVar("Told", str, bytes)


POWER_ON: Final = "as it was at the beginning of the history"
FIRST_CALL: Final = "the test, which has set it up for its first call, or left it as it was"
"""What is said of a value that nothing has written since the history began."""
BY_USER: Final = "a change by hand"
BY_TEST: Final = "the test, which has set it up for the call that begins here"
"""What is said of a change that comes from outside."""


class NoKernel(Exception):
    """Something was asked for that only a kernel has, of a machine without one."""

    def __init__(self) -> None:
        super().__init__("this machine has no kernel: there are no endpoints, slots, requests or processes")


class Once(Protocol):
    """Makes a function of a text one that is called once for each: not again when a part of a run is repeated."""

    def __call__(self, function: Callable[[Told], None]) -> Callable[[Told], None]:
        """Return that function."""
        ...


class Kept(Protocol):
    """A state that can be restored: the machine's, and what policy's records and hosted servers were."""

    @property
    def machine(self) -> Snapshot:
        """The machine's part."""
        ...


class Target(Protocol):
    """A machine that runs, with or without a kernel."""

    machine: Machine
    has_kernel: bool
    unwritten: str  # POWER_ON or FIRST_CALL

    @property
    def system(self) -> System:
        """The system; NoKernel if there is none."""
        ...

    def snapshot(self, keep: Keep) -> Kept:
        """Keep the whole state; NotQuiescent if something is under way.  `keep` keeps the memory."""
        ...

    def restore(self, kept: Any) -> None:
        """Go back to a state that was kept."""
        ...

    @property
    def kept_bytes(self) -> int:
        """Bytes that the kernel's part of all states that are kept takes, which share most of it."""
        ...

    @property
    def most_kept_bytes(self) -> int:
        """Bytes that this does not exceed, as a rule; nothing is measured for it."""
        ...

    def quiet(self) -> bool:
        """Whether nothing is under way that a snapshot cannot hold, as far as host calls are concerned."""
        ...

    def tell_once(self, once: Once) -> None:
        """Let what the run tells its user come once."""
        ...

    def ended(self) -> Stop | None:
        """Return how the run has ended where the machine stands, if there is nothing to run there; None otherwise."""
        ...

    def answers(self) -> Sequence[Answer]:
        """Return what functions of the host have changed that are not part of what is repeated, in order."""
        ...

    def repeat(self, what: Outside) -> None:
        """Let something come from outside again, at the present position."""
        ...

    @property
    def exit_code(self) -> int | None:
        """The status with which the system has ended; None as long as it has not, or if there is none."""
        ...

    def close(self) -> None:
        """Close the machine."""
        ...
