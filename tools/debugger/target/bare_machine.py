"""A machine without a kernel as a target: one of Python's own, or one on which a test calls routines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from callgate.tools.debugger.target.target import FIRST_CALL, POWER_ON, NoKernel
from callgate.tools.recording import apply

if TYPE_CHECKING:
    from callgate.asm.assembler import EventSite, Program
    from callgate.kernel.machine import Machine, Stop
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.kernel.machine.snapshot import Keep, Snapshot
    from callgate.kernel.system import System
    from callgate.tools.debugger.target.target import Once
    from callgate.tools.recording import Answer, CallsRun


@dataclass(frozen=True, slots=True)
class BareSnapshot:
    """A machine's state; there is no kernel's."""

    machine: Snapshot


class BareMachine:
    """A machine, and the programs in its memory: their symbols, source lines and call frames are what is shown."""

    has_kernel = False
    exit_code: int | None = None
    kept_bytes = most_kept_bytes = 0

    def __init__(
        self,
        machine: Machine,
        programs: Sequence[Program] = (),
        name: str = "machine",
        calls: CallsRun | None = None,
    ) -> None:
        """`name` is what the one thread and its address space are called.

        Labels of the programs become names of the machine's addresses, beside those that it has.  `calls` is the
        run that a recording of a test has made the machine for.
        """
        self.machine = machine
        self.calls = calls
        self.unwritten = POWER_ON if calls is None else FIRST_CALL
        self.programs = list(programs)
        self.name = name
        labels = {
            label: symbol.address
            for program in programs
            for label, symbol in program.symbols.items()
            if symbol.kind == "label"
        }
        machine.addresses = labels | dict(machine.addresses)
        for program in programs:
            for site in program.events:
                machine.event_sites.add(site.address, site.name, partial(self._fields, site))

    def _fields(self, site: EventSite) -> dict[str, int]:
        """Return the fields of an event of a program: registers and numbers."""
        cpu = self.machine.cpu
        return {key: getattr(cpu, text) if text.isalpha() else int(text) for key, text in site.fields}

    @property
    def system(self) -> System:
        """NoKernel."""
        raise NoKernel

    def snapshot(self, keep: Keep) -> BareSnapshot:
        """Keep the whole state."""
        return BareSnapshot(self.machine.snapshot(keep))

    def restore(self, kept: BareSnapshot) -> None:
        """Go back to a state that was kept."""
        self.machine.restore(kept.machine)

    def quiet(self) -> bool:
        """A function of Python's own has ended when it has returned."""
        return True

    def tell_once(self, once: Once) -> None:
        """Let what the guest writes to its serial line come once."""
        serial = self.machine.serial
        serial.output = once(serial.output)

    def ended(self) -> Stop | None:
        """Return how a test's call has ended; a machine of Python's own runs on from everywhere."""
        return None if self.calls is None else self.calls.ended()

    def answers(self) -> Sequence[Answer]:
        """Return what a test's functions have changed."""
        return () if self.calls is None else self.calls.answers

    def repeat(self, what: Outside) -> None:
        """Let something come from outside again."""
        apply(self.machine, what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the machine."""
        self.machine.close()
