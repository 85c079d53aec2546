"""Directives about call frames: those of GNU as (`.cfi_…`), and ours, `.frame` and `.frame_bias`.

They are read when a unit is assembled, so that a wrong one is an error; what follows from them is worked out only for
a file with debug information (frames.py).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler.language.errors import AsmError
from callgate.asm.assembler.language.expressions import evaluate
from callgate.asm.assembler.language.frame_words import CFI_OPERANDS, FRAME_KINDS, FRAME_WORDS
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.output.unit import FrameSite
from callgate.kernel.common.near_miss import did_you_mean

if TYPE_CHECKING:
    from callgate.asm.assembler.encoding.layout import Layout
    from callgate.asm.assembler.language.errors import Place
    from callgate.asm.assembler.language.statements import Chunk, Statement

#: Numbers of registers in DWARF (System V ABI for Intel386, figure 2-14; segment registers as binutils has them).
DWARF_REGISTERS: Final = {
    "eax": 0,
    "ecx": 1,
    "edx": 2,
    "ebx": 3,
    "esp": 4,
    "ebp": 5,
    "esi": 6,
    "edi": 7,
    "eip": 8,
    "eflags": 9,
    **{f"st{number}": 11 + number for number in range(8)},
    **{f"xmm{number}": 21 + number for number in range(8)},
    **{f"mm{number}": 29 + number for number in range(8)},
    "es": 40,
    "cs": 41,
    "ss": 42,
    "ds": 43,
    "fs": 44,
    "gs": 45,
}
REGISTERS_LIMIT: Final = 128


def read_frames(layout: Layout) -> list[FrameSite]:
    """Return the directives of a unit in order of their addresses; errors are noted in the layout."""
    sites: list[FrameSite] = []
    for chunk in sorted(layout.chunks, key=lambda chunk: chunk.address):
        reader = ChunkFrames(layout, chunk)
        sites += reader.read()
    return sorted(sites, key=lambda site: site.address)


class ChunkFrames:
    """Reads the directives of one section, and checks that they stand in order."""

    def __init__(self, layout: Layout, chunk: Chunk) -> None:
        self.layout = layout
        self.chunk = chunk
        self.opened: Statement | None = None
        self.remembered = 0

    @cached_property
    def instructions(self) -> set[int]:
        """The addresses of all instructions."""
        return {s.address for chunk in self.layout.chunks for s in chunk.statements if s.kind == "code"}

    def read(self) -> list[FrameSite]:
        """Return the directives; errors are noted."""
        sites: list[FrameSite] = []
        for statement in self.chunk.statements:
            if statement.kind != "frame":
                continue
            try:
                sites += self._site(statement)
            except AsmError as error:
                place = error.place if error.place.file else statement.line.place
                self.layout.errors.add(AsmError(place, error.message, error.hint))
        if self.opened is not None:
            what = "the frame begun here is open at the end of the section"
            self.layout.errors.add(AsmError(self.opened.line.place, what, "end it with .cfi_endproc"))
        return sites

    def _site(self, statement: Statement) -> list[FrameSite]:
        word, place = statement.word, statement.line.place.at(statement.column)
        parts = split_arguments(statement.rest) if statement.rest else []
        if not self.chunk.executable:
            raise AsmError(statement.line.place, f"{word} stands in {self.chunk.name}, which holds no instructions")
        if word == ".frame":
            return [self._frame(parts, statement, place)]
        if word == ".frame_bias":
            if len(parts) != 1:
                raise AsmError(place, ".frame_bias takes one number", "write .frame_bias BYTES")
            return [FrameSite(statement.address, word, (self._number(parts[0], statement),))]
        self._check_order(statement)
        return self._cfi(word, parts, statement, place)

    def _frame(self, parts: list[str], statement: Statement, place: Place) -> FrameSite:
        """`.frame KIND[, BYTES]` or `.frame like LABEL`."""
        kind, _, label = parts[0].partition(" ") if parts else ("", "", "")
        if self.opened is not None:
            raise AsmError(statement.line.place, ".frame within .cfi_startproc", "end that with .cfi_endproc first")
        if kind == "like" and label.strip() and len(parts) == 1:
            address = self._number(label.strip(), statement)
            if address not in self.instructions:
                raise AsmError(place, f"no instruction stands at {label.strip()}", "name the label of one")
            return FrameSite(statement.address, ".frame", (address,), kind)
        if kind not in FRAME_KINDS or kind == "like" or label or len(parts) > 2:
            hint = did_you_mean(kind, FRAME_KINDS) or f"write .frame KIND, BYTES; kinds are {', '.join(FRAME_KINDS)}"
            raise AsmError(place, "the kind of frame is not understood", hint)
        pushed = self._number(parts[1], statement) if len(parts) == 2 else 0
        if pushed < 0:
            raise AsmError(place, "fewer than no bytes cannot have been pushed", "write how many were")
        return FrameSite(statement.address, ".frame", (pushed,), kind)

    def _check_order(self, statement: Statement) -> None:
        """Hold the rules that GNU as has for the order of directives."""
        word, place = statement.word, statement.line.place
        if word == ".cfi_startproc":
            if self.opened is not None:
                what = f"the frame begun in line {self.opened.line.place.line} has not been ended"
                raise AsmError(place, what, "write .cfi_endproc before it")
            self.opened, self.remembered = statement, 0
        elif self.opened is None:
            raise AsmError(place, f"{word} without .cfi_startproc", "begin the routine's frame with .cfi_startproc")
        elif word == ".cfi_endproc":
            self.opened = None
        elif word == ".cfi_remember_state":
            self.remembered += 1
        elif word == ".cfi_restore_state":
            if not self.remembered:
                raise AsmError(place, ".cfi_restore_state without .cfi_remember_state", "there is nothing to restore")
            self.remembered -= 1

    def _cfi(self, word: str, parts: list[str], statement: Statement, place: Place) -> list[FrameSite]:
        shape = CFI_OPERANDS[word]
        if word == ".cfi_startproc":
            if parts not in ([], ["simple"]):
                raise AsmError(place, ".cfi_startproc takes nothing, or simple", "leave the rest out")
            return [FrameSite(statement.address, word, (), "".join(parts))]
        if shape in ("r*", "n*"):
            if not parts:
                raise AsmError(place, f"{word} wants operands", f"write {FRAME_WORDS[word]}")
            reading = self._register if shape == "r*" else self._number
            values = [reading(part, statement) for part in parts]
            if shape == "r*":
                return [FrameSite(statement.address, word, (value,)) for value in values]
            if not all(-128 <= value < 256 for value in values):
                raise AsmError(place, ".cfi_escape takes bytes", "write numbers of 0 to 255")
            return [FrameSite(statement.address, word, tuple(value & 0xFF for value in values))]
        if len(parts) != len(shape):
            raise AsmError(place, f"{word} takes {len(shape) or 'no'} operands", f"write {FRAME_WORDS[word]}")
        readers = {"r": self._register, "n": self._number}
        operands = tuple(readers[kind](part, statement) for kind, part in zip(shape, parts, strict=True))
        return [FrameSite(statement.address, word, operands)]

    def _register(self, text: str, statement: Statement) -> int:
        name = text.strip().lower().removeprefix("%")
        number = DWARF_REGISTERS.get(name)
        if number is None and name[:1].isdigit():
            number = self._number(name, statement)
        if number is None or not 0 <= number < REGISTERS_LIMIT:
            hint = did_you_mean(name, DWARF_REGISTERS) or "write its name, or its number in DWARF"
            raise AsmError(statement.line.place.at(statement.column), f"{text} is no register of a frame", hint)
        return number

    def _number(self, text: str, statement: Statement) -> int:
        finder = self.layout.names.finder(statement.scope, statement.address)
        return evaluate(text, statement.line.place, statement.column, finder)
