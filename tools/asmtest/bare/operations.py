"""The interface of the bare CPU that its helpers use: `bare.BareCpu` fits it, so that they need not import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.observation.ledger import Reading
from callgate.kernel.machine.observation.stream import Event
from callgate.tools.asmtest.board.result import CallResult

Function = Callable[..., int | None]


class RunMachine(Protocol):
    """`Machine.run`, as far as it is used."""

    def __call__(self, *, fuel: int | None = None) -> Stop:
        """Run the machine."""
        ...


class Operations(Protocol):
    """A bare CPU, as its helpers see it."""

    machine: Machine
    events: list[Event]
    calls: int
    stubs: dict[str, Function]
    last: CallResult | None
    before: dict[str, int]
    journal: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]

    def reset(self) -> None:
        """Go back to empty memory."""
        ...

    def write(self, address: int | str, data: bytes) -> None:
        """Write bytes at a linear address or label."""
        ...

    def ram_at(self, address: int, length: int) -> bytes:
        """Return bytes from a linear address; DmaError where there is no memory."""
        ...

    def clear_floating_point(self) -> None:
        """Leave the x87 as FNINIT does, and MXCSR as after reset."""
        ...

    def begin(self, routine: int | str, stack: Sequence[int], registers: dict[str, int]) -> Reading:
        """Set the CPU to the routine's first instruction; return the counters before it."""
        ...

    def run(self, fuel: int) -> Stop:
        """Run the machine; KeyboardInterrupt at Ctrl-C."""
        ...

    def run_routine(self, routine: int | str, options: dict[str, Any], *, faults: bool, returns: bool) -> CallResult:
        """Call a routine without a convention."""
        ...

    def name_of(self, address: int) -> str:
        """Return an address as label+offset, with its source line if there is one."""
        ...
