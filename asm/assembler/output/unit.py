"""The result of an assembly: sections with bytes, symbols, lines, event sites and ledger marks."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from callgate.kernel.common.near_miss import nearest
from callgate.kernel.common.record import record

BINARY_LIMIT = 256 << 20


class Section(NamedTuple):
    """A section: linear and load address, bytes in the file, size in memory (the rest is zero)."""

    name: str
    address: int
    load: int
    data: bytes
    size: int
    writable: bool
    executable: bool


class Symbol(NamedTuple):
    """A name: `kind` is label, local or constant; `size` reaches to the next global label of the section."""

    name: str
    address: int
    section: str
    file: str
    line: int
    size: int = 0
    kind: str = "label"

    @property
    def local(self) -> bool:
        """Whether it belongs to the label before it."""
        return self.kind == "local"


class SourceLine(NamedTuple):
    """An instruction: linear address, bytes, where it was written.

    Inside macros, `file` and `line` are those of the outermost call; `text` is the expanded line.
    """

    address: int
    size: int
    file: str
    line: int
    text: str


class EventSite(NamedTuple):
    """`.event` before the instruction at `address`: name, and each field's register or decimal number."""

    address: int
    name: str
    fields: tuple[tuple[str, str], ...]


class LedgerMark(NamedTuple):
    """`.ledger` before the instruction at `address`: the counter, and what is added to it."""

    address: int
    name: str
    amount: int


class FrameSite(NamedTuple):
    """A directive about call frames before the instruction at `address` (docs/assembler.md, "Call frames").

    `operands` are registers by their numbers in DWARF, and numbers; `name` is the kind of a `.frame`.
    """

    address: int
    word: str
    operands: tuple[int, ...] = ()
    name: str = ""


@record(frozen=True)
class Variable:
    """A label that holds `count` structures, for debuggers; `type` is the structure's name."""

    address: int
    name: str
    type: str
    count: int = 1


@dataclass
class Unit:
    """An assembled unit.

    `symbols` come in order of their addresses, constants last; `lines`, `events` and `marks` in order of
    addresses.  `sources` are the files that it was made of, in the order given.  `structures` are those that
    its sources declare, as the assembler knows them: `Name.field` and `sizeof(Name)`.
    """

    entry: int
    sections: list[Section]
    symbols: dict[str, Symbol]
    lines: Sequence[SourceLine] = ()
    events: list[EventSite] = field(default_factory=list)
    marks: list[LedgerMark] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    frame_sites: Sequence[FrameSite] = ()
    variables: list[Variable] = field(default_factory=list)
    structures: dict[str, int] = field(default_factory=dict)

    def address(self, name: str) -> int:
        """Return the linear address of a label or the value of a constant; KeyError names near misses."""
        symbol = self.symbols.get(name)
        if symbol is None:
            near = ", ".join(nearest(name, self.symbols))
            raise KeyError(f"no label {name!r}" + (f"; did you mean {near}?" if near else ""))
        return symbol.address

    @cached_property
    def _labels(self) -> tuple[list[int], list[Symbol]]:
        labels = sorted((s for s in self.symbols.values() if s.kind == "label"), key=lambda s: (s.address, s.size))
        return [label.address for label in labels], labels

    def section_at(self, address: int) -> Section | None:
        """Return the section that holds a linear address."""
        return next((s for s in self.sections if s.address <= address < s.address + s.size), None)

    def symbol_at(self, address: int) -> str:
        """Return `name+0x12` for an address within the unit, else the address in hex."""
        section = self.section_at(address)
        addresses, labels = self._labels
        index = bisect_right(addresses, address) - 1
        if section is None or index < 0 or labels[index].section != section.name:
            return f"{address:#010x}"
        offset = address - addresses[index]
        return f"{labels[index].name}+{offset:#x}" if offset else labels[index].name

    @cached_property
    def _line_addresses(self) -> list[int]:
        return [line.address for line in self.lines]

    def line_at(self, address: int) -> SourceLine | None:
        """Return the source line of the instruction at, or around, an address."""
        index = bisect_right(self._line_addresses, address) - 1
        if index < 0:
            return None
        line = self.lines[index]
        return line if address < line.address + line.size else None

    def code_at(self, address: int, size: int) -> bytes:
        """Return bytes of the section that holds an address, as far as the file has them."""
        section = self.section_at(address)
        if section is None:
            return b""
        start = address - section.address
        return section.data[start : start + size]

    def binary(self) -> bytes:
        """Return the bytes of memory from the lowest load address on, with zeros between sections.

        Zeros at the end (`.bss`) are left out.  ValueError if sections lie so far apart that the bytes would be more
        than BINARY_LIMIT.
        """
        filled = [section for section in self.sections if section.data]
        if not filled:
            return b""
        start = min(section.load for section in filled)
        size = max(section.load + len(section.data) for section in filled) - start
        if size > BINARY_LIMIT:
            raise ValueError(f"the sections lie {size:#x} bytes apart; a flat binary holds at most {BINARY_LIMIT:#x}")
        image = bytearray(size)
        for section in filled:
            image[section.load - start : section.load - start + len(section.data)] = section.data
        return bytes(image)
