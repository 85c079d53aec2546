"""Where a value can be: in a register of the CPU, or in physical memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WHOLE: Final = {
    part: whole
    for whole, parts in {
        "eax": ("eax", "ax", "al", "ah"),
        "ecx": ("ecx", "cx", "cl", "ch"),
        "edx": ("edx", "dx", "dl", "dh"),
        "ebx": ("ebx", "bx", "bl", "bh"),
        "esp": ("esp", "sp"),
        "ebp": ("ebp", "bp"),
        "esi": ("esi", "si"),
        "edi": ("edi", "di"),
    }.items()
    for part in parts
}
"""The general register that a name is a part of."""


SEGMENTS: Final = ("ds", "es", "fs", "gs")
FOLLOWED: Final = WHOLE | {name: name for name in SEGMENTS}
"""The same, with the segment registers of data."""


FAR_RETURNS: Final = ("retf", "iretd", "iret")
"""A return to an outer ring clears the segment registers that this ring may not use (SDM vol. 1, 6.4.6)."""


@dataclass(frozen=True, slots=True)
class InRegister:
    """A general register, 32 bits, or a segment register, 16 bits."""

    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 if self.name in SEGMENTS else 4

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class InMemory:
    """Bytes of physical memory, under the linear address that was asked for."""

    physical: int
    size: int
    linear: int

    def __str__(self) -> str:
        kind = {1: "byte ", 2: "word ", 4: "", 8: "qword "}.get(self.size, f"{self.size} bytes ")
        return f"{kind}[{self.linear:#010x}]"


Location = InRegister | InMemory
