"""An explanation: a heading, rows of parts with what they mean, and notes; as text or as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

GAP: Final = "  "
NAME_WIDTH: Final = 16  # most columns that a name takes before its meaning


class Unknown(Exception):
    """Something that cannot be explained: what is wrong, and what was perhaps meant."""


class Part(NamedTuple):
    """A part of the thing: where it is (bits or offset), its name, its value, what it means."""

    place: str
    name: str
    value: str
    meaning: str


@dataclass(slots=True)
class Answer:
    """What is said of one thing; `kind` is what it was taken for."""

    kind: str
    subject: str
    summary: str = ""
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it as lines of text."""
        shown = [f"{self.kind} {self.subject}".rstrip() + (f": {self.summary}" if self.summary else "")]
        widths = [max((len(part[column]) for part in self.parts), default=0) for column in range(3)]
        for part in self.parts:
            cells = [cell.ljust(width) for cell, width in zip(part[:3], widths, strict=True) if width]
            shown.append(GAP + GAP.join([*cells, part.meaning]).rstrip())
        return shown + [GAP + note for note in self.notes]

    def as_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "summary": self.summary,
            "parts": [part._asdict() for part in self.parts],
            "notes": self.notes,
        }


class Bit(NamedTuple):
    """Bits of a register or entry: the lowest, how many, their name, what they mean when set (or by value)."""

    low: int
    width: int
    name: str
    meaning: str


def of_bits(kind: str, value: int | None, width: int, bits: list[Bit], reserved_one: int = 0) -> Answer:
    """Return the bits of a value of `width` bits; without a value, what each of them means.

    Bits that have no name must be 0, or 1 if they are in `reserved_one`; others are named in a note.
    """
    if value is None:
        return Answer(kind, "", f"{width} bits", [Part(place(bit), bit.name, "", bit.meaning) for bit in bits])
    answer = Answer(kind, f"{value:#0{width // 4 + 2}x}")
    clear = []
    for bit in bits:
        part = value >> bit.low & (1 << bit.width) - 1
        if bit.width == 1 and not part:
            clear.append(bit.name)
            continue
        shown = f"{part}" if bit.width <= 4 else f"{part:#x}"
        answer.parts.append(Part(place(bit), bit.name, shown, bit.meaning))
    answer.summary = " ".join(bit.name for bit in bits if bit.width == 1 and value >> bit.low & 1) or "no flag is set"
    if clear:
        answer.notes.append(f"clear: {' '.join(clear)}")
    known = sum((1 << bit.width) - 1 << bit.low for bit in bits)
    unknown = (value ^ reserved_one) & ~known
    if unknown:
        wrong = " ".join(str(number) for number in range(width) if unknown >> number & 1)
        answer.notes.append(f"reserved bits that are not as they must be: {wrong}")
    return answer


def place(bit: Bit) -> str:
    """Return where bits are, as manuals write it."""
    return f"bit {bit.low}" if bit.width == 1 else f"bits {bit.low + bit.width - 1}:{bit.low}"
