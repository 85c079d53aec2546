"""Statements to bytes: sizes and addresses that settle.

Branches start short and only ever grow; every other statement that depends on an address is encoded anew each pass with
the addresses of the previous pass.  The passes end when no address has moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from callgate.asm.assembler.encoding.branches import (
    SHORT_LIMIT,
    always_near,
    checked_branch,
    encode_branch,
    may_grow,
    offset_of,
)
from callgate.asm.assembler.encoding.data import SIZE_LIMIT, Context, floats, numbers, space, string_bytes, texts
from callgate.asm.assembler.encoding.encode import encode, encode_wide
from callgate.asm.assembler.encoding.self_sized import find_self_sized
from callgate.asm.assembler.language.errors import AsmError, ErrorList, Place
from callgate.asm.assembler.language.expressions import Unresolved, evaluate
from callgate.asm.assembler.language.gnu_syntax import refuse_bare_label
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.language.mnemonics import ALIASES, BRANCHES
from callgate.asm.assembler.language.names import Names
from callgate.asm.assembler.language.operands import OFFSET, SHIFT, Immediate, Operand, parse_operand
from callgate.asm.assembler.language.source import Sources
from callgate.asm.assembler.language.statements import Chunk, Statement

PASSES_LIMIT = 64
UNKNOWN = 0x7654_3210  # value of a label before the first layout: too large for any short form
PLACEHOLDER_SIZE = 8
ADDRESS_END = 1 << 32
DATA_KINDS = {"data": numbers, "float": floats, "text": texts, "space": space}


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """Where one section goes: linear address, and load address if it is another."""

    address: int
    load: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a unit goes.

    `origin` is the linear address of its first section, `load` its load address; sections follow each other
    at multiples of `align` bytes, except those with a place of their own in `sections`.
    """

    origin: int
    load: int
    align: int = 4096
    sections: Mapping[str, SectionSpec] = field(default_factory=dict)


class Layout:
    """Gives every statement of a unit its address and bytes."""

    def __init__(self, chunks: Mapping[str, Chunk], names: Names, sources: Sources, errors: ErrorList) -> None:
        self.chunks = sorted((chunk for chunk in chunks.values() if not chunk.dropped), key=memory_order)
        self.names = names
        self.sources = sources
        self.errors = errors
        self.final = False
        self.guessed = False
        self.passes = 0

    def settle(self, placement: Placement) -> None:
        """Settle every address; AsmErrors with all mistakes found."""
        for _ in range(PASSES_LIMIT):
            moved = self._pass(placement)
            self.errors.check()
            if not moved:
                break
        for statement in find_self_sized(self.chunks, self.names, self.size_of):
            hint = "let it be computed from what stands before it, or from constants"
            place = statement.line.place.at(statement.column)
            self.errors.add(AsmError(place, f"the size of this {statement.word} depends on itself", hint))
        self.errors.check()
        self.final = True
        moved = self._pass(placement)
        self._check_overlap()
        self.errors.check()
        if moved:
            hint = "an expression depends on its own size; look at .space, .fill and .org"
            raise AsmError(self.first_place(), "the addresses do not settle", hint)

    def first_place(self) -> Place:
        """Return the place of the first statement."""
        return next((c.statements[0].line.place for c in self.chunks if c.statements), Place("<unit>", 1))

    def _pass(self, placement: Placement) -> bool:
        """Make one pass over all statements; return whether an address has moved."""
        moved = False
        self.passes += 1
        end = placement.origin
        for chunk in self.chunks:
            spec = placement.sections.get(chunk.name)
            align = max(placement.align, chunk.alignment)
            address = spec.address if spec else -(-end // align) * align
            moved |= chunk.address != address
            chunk.address = address
            chunk_moved, chunk_end = self._pass_chunk(chunk)
            moved |= chunk_moved
            end = end if spec else chunk_end
        return moved

    def _pass_chunk(self, chunk: Chunk) -> tuple[bool, int]:
        moved = False
        address = chunk.address
        for statement in chunk.statements:
            moved |= statement.address != address
            statement.address = address
            if not statement.fixed:
                size = statement.size
                self._update(statement, chunk)
                moved |= statement.size != size
            address += statement.size
            if address - chunk.address > SIZE_LIMIT or address > ADDRESS_END:
                what = f"{SIZE_LIMIT >> 20} MiB" if address <= ADDRESS_END else "the address space"
                raise AsmError(statement.line.place, f"section {chunk.name} is larger than {what}")
        return moved, address

    def _update(self, statement: Statement, chunk: Chunk) -> None:
        """Bring a statement's bytes up to date; errors count when the addresses are final."""
        self.names.moving = self.guessed = False
        try:
            statement.data = self._bytes(statement, chunk)
            settled = statement.kind in ("code", "data", "float", "text") and not chunk.zero
            statement.fixed = settled and not self.names.moving
        except AsmError as error:
            # While addresses move, the next pass may succeed.  The size stays as it was, so that one
            # mistake does not put branches around it out of reach.
            statement.data = bytes(statement.size or PLACEHOLDER_SIZE)
            if not self.names.moving or self.final:
                place = error.place if error.place.file else statement.line.place
                self.errors.add(AsmError(place, error.message, error.hint))
        statement.size = len(statement.data)

    def _bytes(self, statement: Statement, chunk: Chunk) -> bytes:
        kind = statement.kind
        if kind == "code":
            return self._code(statement)
        if kind == "label":
            self.names.labels[statement.word].address = statement.address
        elif kind == "here":
            self.names.constants[statement.word].here = statement.address
        elif kind == "check" and self.final:
            self._check(statement)
        elif kind in DATA_KINDS:
            # Space depends on its own address; numbers and texts only on the names in their expressions.
            self.names.moving = kind == "space"
            data = DATA_KINDS[kind](statement, Context(chunk, self.sources, Evaluator(self, statement), self.is_final))
            if chunk.zero and self.final and data.strip(b"\0"):
                raise AsmError(
                    statement.line.place, f"{chunk.name} holds zeros only", "put values into .data or .rodata"
                )
            return data
        return b""

    def size_of(self, statement: Statement, chunk: Chunk) -> int:
        """Return the size that a statement of space would have now."""
        self.guessed = False
        return len(space(statement, Context(chunk, self.sources, Evaluator(self, statement), self.is_final)))

    def is_final(self) -> bool:
        """Whether the values that the present statement has asked for are final."""
        return self.final or not self.names.moving

    def find(self, name: str, statement: Statement, shift: int = 0) -> int:
        """Look a name up; a label without an address yet counts as far away."""
        try:
            return self.names.lookup(name, statement.scope, statement.address, shift)
        except Unresolved:
            self.guessed = True
            return UNKNOWN + shift

    def _operand(self, text: str, statement: Statement, column: int) -> Operand:
        return parse_operand(text, statement.line.place, column, Finder(self, statement))

    def _code(self, statement: Statement) -> bytes:
        parts = split_arguments(statement.rest) if statement.rest else []
        operands: list[Operand] = []
        columns: list[int] = []
        position = wide = 0
        for part in parts:
            position = statement.rest.find(part, position)
            columns.append(statement.column + position)
            self.names.relocated = False
            operands.append(self._operand(part, statement, columns[-1]))
            wide |= self.names.relocated << len(operands) - 1
            if self.final and self.names.gnu_syntax and statement.word not in BRANCHES:
                self._refuse_bare_label(part, operands[-1], statement, columns[-1])
            position += len(part) + 1
        place = statement.line.place
        if len(operands) == 1 and isinstance(operands[0], Immediate) and statement.word in BRANCHES:
            return self._branch(statement, operands[0], place.at(columns[0]))
        word_column = place.text.lower().rfind(statement.word, 0, statement.column) + 1
        where = place.at(max(word_column, 1))
        if wide:
            return encode_wide(statement.word, operands, where, statement.prefix, columns, wide)
        return encode(statement.word, operands, where, statement.prefix, columns)

    def _refuse_bare_label(self, part: str, operand: Operand, statement: Statement, column: int) -> None:
        if isinstance(operand, Immediate) and not OFFSET.match(part):
            if Evaluator(self, statement).is_address(part, column):
                refuse_bare_label(part, statement.line.place.at(column))

    def _branch(self, statement: Statement, target: Immediate, place: Place) -> bytes:
        """Encode a direct branch, short as long as it reaches."""
        word = ALIASES.get(statement.word, statement.word)
        if statement.prefix:
            raise AsmError(statement.line.place, f"{statement.prefix} cannot stand before {word}", "leave it out")
        if target.bits:
            hint = f"write {word} [address] to go where the memory there says, or no size word"
            raise AsmError(place, f"{word} to a label has no size word", hint)
        if target.distance == "far":
            raise AsmError(place, "a far branch needs a selector", f"write {word} selector:offset")
        # The offset depends on the branch's own address, even if the target is a number.
        self.names.moving = True
        near = statement.grown or always_near(word, target.distance)
        offset = offset_of(word, statement.address, target.value, near=near)
        if self.final:
            return checked_branch(word, offset, target.distance, place, near=near)
        reaches = -SHORT_LIMIT <= offset < SHORT_LIMIT
        if not near and not reaches and self.passes > 1 and may_grow(word, target.distance):
            near = statement.grown = True
            offset = offset_of(word, statement.address, target.value, near=True)
        return encode_branch(word, offset, near=near)

    def _check(self, statement: Statement) -> None:
        """`.assert condition[, "text"]`."""
        condition, *message = split_arguments(statement.rest)
        place = statement.line.place.at(statement.column)
        holds = Evaluator(self, statement)(condition, statement.column)
        text = f"{condition} does not hold"
        if message:
            text = string_bytes(message[0], place).decode("utf-8", "replace")
        if len(message) > 1:
            raise AsmError(place, ".assert takes a condition and a text", 'write .assert condition, "text"')
        if not holds:
            raise AsmError(place, text)

    def _check_overlap(self) -> None:
        ranges = sorted((c.address, c.address + sum(s.size for s in c.statements), c.name) for c in self.chunks)
        ranges = [item for item in ranges if item[0] != item[1]]
        for (_, end, name), (start, _, other) in pairwise(ranges):
            if start < end:
                self.errors.add(
                    AsmError(
                        self.first_place(), f"sections {name} and {other} overlap at {start:#x}", "move one of them"
                    )
                )


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks names up from a statement."""

    layout: Layout
    statement: Statement
    shift: int = 0

    def __call__(self, name: str) -> int:
        """Return the value of a name; a label without an address yet counts as far away."""
        return self.layout.find(name, self.statement, self.shift)

    def shifted(self, amount: int) -> "Finder":
        """Return a finder to which every address is larger by `shift` bytes."""
        return replace(self, shift=amount)


class Evaluator:
    """Evaluates expressions of one statement."""

    def __init__(self, layout: Layout, statement: Statement) -> None:
        self.layout = layout
        self.statement = statement

    def __call__(self, text: str, column: int) -> int:
        """Return the value; before the layout is final an address that is not known counts as zero."""
        value = evaluate(text, self.statement.line.place, column, Finder(self.layout, self.statement))
        return 0 if self.layout.guessed and not self.layout.final else value

    def is_address(self, text: str, column: int) -> bool:
        """Whether the value moves as the unit does."""
        finder = Finder(self.layout, self.statement)
        values = [evaluate(text, self.statement.line.place, column, finder.shifted(by)) for by in (0, SHIFT)]
        return values[1] - values[0] == SHIFT


def memory_order(chunk: Chunk) -> int:
    """Rank sections as they follow in memory: code, read-only data, data, zeros."""
    if chunk.zero:
        return 4
    if chunk.name == ".text":
        return 1
    return 0 if chunk.executable else 3 if chunk.writable else 2


def section_spec(name: str, value: SectionSpec | int) -> SectionSpec:
    """Return the place of a section that a caller gave as an address or as a SectionSpec."""
    if isinstance(value, SectionSpec):
        return value
    if isinstance(value, int):
        return SectionSpec(value)
    raise TypeError(f"the place of section {name} is {value!r}, not an address or a SectionSpec")
