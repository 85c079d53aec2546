"""The result of a call of a routine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from callgate.kernel.machine.cpu.exceptions import PF, name_of
from callgate.kernel.machine.observation.ledger import Counts, Reading
from callgate.kernel.machine.observation.stream import Event

FLAGS: Final = {"CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11}
WHOLE: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
PARTS: Final = {
    **{name[1:]: (name, 0, 0xFFFF) for name in WHOLE},
    **{f"{letter}l": (f"e{letter}x", 0, 0xFF) for letter in "abcd"},
    **{f"{letter}h": (f"e{letter}x", 8, 0xFF) for letter in "abcd"},
}

WIDE: Final = frozenset(
    ("mxcsr", "fcw", "fsw", *(f"{name}{index}" for name in ("xmm", "st", "mm") for index in range(8)))
)


TRAPS: Final = {3: 0xCC, 4: 0xCE}  # opcodes of INT3 and INTO


class RoutineError(AssertionError):
    """A routine did not return as it should: fault, HLT, or more instructions than allowed."""


class ConventionError(RoutineError):
    """A routine broke its calling convention; `broken` are the rules, as text."""

    def __init__(self, message: str, broken: list[str]) -> None:
        super().__init__(message)
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception that ended the routine; `address` is CR2 for #PF, else None."""

    vector: int
    error_code: int
    eip: int
    address: int | None = None
    software: bool = False  # INT n, INT3 or INTO
    trap: bool = False  # INT3 or INTO, which have names: #BP and #OF

    @property
    def name(self) -> str:
        """#PF, #GP, #BP, …; `int 0x80` for INT n."""
        return f"int {self.vector:#x}" if self.software and not self.trap else name_of(self.vector)

    def __str__(self) -> str:
        if self.software:
            return self.name
        where = f" at {self.address:#x}" if self.address is not None else ""
        return f"{self.name} {self.error_code:#x}{where}"

    @classmethod
    def of_event(cls, event: Event, last: int) -> Fault:
        """Return the fault that the machine's event reports; `last` is the last byte of the instruction before EIP."""
        number = {key: int(str(value)) for key, value in event.fields.items()}
        software = event.kind == "int"
        address = number.get("cr2") if number["vector"] == PF and not software else None
        trap = software and TRAPS.get(number["vector"]) == last
        return cls(number["vector"], number["error"], number["eip"], address, software, trap)


@dataclass(frozen=True, slots=True, repr=False)
class CallResult:
    """Registers, flags, fault, costs and events of one call.

    Registers and flags are attributes: `result.eax`, `result.cl`, `result.CF`; so are, until the next call, `xmm0`,
    `mm0` (numbers), `st0` (a float), `mxcsr`, `fcw`.  `returned`: it returned by its RET. `instructions` counts those
    that retired, RET included; `ledger` is the difference of the machine's counters; `events` are those of
    `.event` in the source, in order.
    """

    registers: dict[str, int]
    begun: Reading
    ended: Reading
    fault: Fault | None = None
    events: list[Event] = field(default_factory=list)
    ring: int = 0
    returned: bool = False
    wide: Callable[[str], int | float] | None = None  # reads xmm0 and the like, until the next call

    def __getattr__(self, name: str) -> int | float:
        if name in FLAGS:
            return self.registers["eflags"] >> FLAGS[name] & 1
        if name in PARTS:
            whole, shift, mask = PARTS[name]
            return self.registers[whole] >> shift & mask
        if name in WIDE and self.wide is not None:
            return self.wide(name)
        try:
            return self.registers[name]
        except KeyError:
            raise AttributeError(f"a result has no {name!r}; it has registers, flags (CF, ZF, …) and costs") from None

    @property
    def ledger(self) -> Counts:
        """The costs of the call. Instructions are booked to the ring in which it began, wherever the code lies."""
        cost = self.ended.counts() - self.begun.counts()
        total = cost.guest_instructions
        cost.ring0, cost.ring3 = (0, total) if self.ring else (total, 0)
        cost.ring_changes = int(self.registers["cs"] & 3 != self.ring)
        return cost

    def __repr__(self) -> str:
        values = " ".join(f"{name}={value:#x}" for name, value in self.registers.items())
        flags = " ".join(name for name in FLAGS if getattr(self, name)) or "none"
        ended = f", {self.fault}" if self.fault else ""
        return f"<call in ring {self.ring}: {values}, flags {flags}, {self.instructions} instructions{ended}>"

    @property
    def instructions(self) -> int:
        """Retired guest instructions."""
        return self.ended.guest_instructions - self.begun.guest_instructions

    @property
    def host_calls(self) -> int:
        """Host calls of all names; by name they are in `ledger.host_calls`."""
        return self.ledger.host_call_count
