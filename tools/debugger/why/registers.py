"""Which instructions read or write a general register, while a part of a run is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callgate.kernel.machine.memory.outside import SetUp
from callgate.tools.debugger.target.target import BY_TEST, BY_USER

if TYPE_CHECKING:
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.tools.debugger.history import Moment
    from callgate.tools.debugger.why.path import Tracer


@dataclass(slots=True)
class RegisterTouch:
    """An instruction that reads or writes a register: `moment` is before it; `after` is the value that it leaves.

    `by` is what else has written it, in words; `moment` is after that.
    """

    moment: Moment
    before: int
    after: int | None  # None while it is being executed
    address: int
    instruction: str
    thread: str
    by: str = ""


class RegisterWatch:
    """Watches one general register, in whatever thread."""

    def __init__(self, tracer: Tracer, register: str, moment: Callable[[], Moment], thread: Callable[[], str]) -> None:
        """`moment` returns that before the instruction which is being executed, `thread` its thread in words."""
        self.tracer = tracer
        self.register = register
        self.moment = moment
        self.thread = thread
        self.open: RegisterTouch | None = None

    @contextmanager
    def watching(self, *, writes: bool, reads: bool, told: Callable[[RegisterTouch], None]) -> Iterator[None]:
        """Call a function with each access for as long as the block lasts."""

        def known_by(instruction: Any) -> tuple[int, str] | None:
            """Return address and text of an instruction that is looked for."""
            touched = self.tracer.writes(instruction) if writes else set()
            touched |= self.tracer.reads(instruction) if reads else set()
            if self.register not in touched:
                return None
            return instruction.address, f"{instruction.mnemonic} {instruction.op_str}".rstrip()

        def executed(wanted: tuple[int, str] | None) -> None:
            self._close()
            if wanted is not None:
                self.open = RegisterTouch(self.moment(), self._value(), None, *wanted, self.thread())
                told(self.open)

        with self.tracer.following(known_by, executed):
            try:
                yield
            finally:
                self._close()

    @contextmanager
    def outside(
        self, what: Outside, moment: Callable[[], Moment], told: Callable[[RegisterTouch], None]
    ) -> Iterator[None]:
        """Call a function if what comes from outside within the block changes the register."""
        self._close()
        before = self._value()
        yield
        if self._value() != before:
            by = BY_TEST if isinstance(what, SetUp) else BY_USER
            told(RegisterTouch(moment(), before, self._value(), 0, "", "", by))

    def _close(self) -> None:
        """Note what the last instruction has left."""
        if self.open is not None:
            self.open.after = self._value()
            self.open = None

    def _value(self) -> int:
        return int(getattr(self.tracer.machine.cpu, self.register))
