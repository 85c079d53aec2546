"""Labels that hold structures: `name: .space COUNT * sizeof(Structure)`, or `name: .layout Structure[, COUNT]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler.language.errors import AsmError
from callgate.asm.assembler.language.expressions import evaluate
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.output.unit import Variable

if TYPE_CHECKING:
    from callgate.asm.assembler.encoding.layout import Layout
    from callgate.asm.assembler.language.statements import Statement

SPACE: Final = re.compile(r"(?:.*\*\s*)?sizeof\((?P<name>\w+)\)(?:\s*\*[^()]*)?", re.ASCII)
NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def read_variables(layout: Layout) -> list[Variable]:
    """Return the variables of a unit; errors are noted in the layout."""
    found: list[Variable] = []
    for chunk in layout.chunks:
        labels: list[str] = []
        for statement in chunk.statements:
            if statement.kind == "label":
                labels += [statement.word] if "." not in statement.word and "#" not in statement.word else []
            elif statement.kind == "layout":
                try:
                    found += declared(statement, labels, layout)
                except AsmError as error:
                    place = error.place if error.place.file else statement.line.place
                    layout.errors.add(AsmError(place, error.message, error.hint))
                labels = []
            elif statement.size:
                found += [reserved(statement, label, layout) for label in labels[-1:] if shape(statement)]
                labels = []
    return [variable for variable in found if variable.count > 0]


def shape(statement: Statement) -> re.Match[str] | None:
    """Return the match if a statement reserves whole structures."""
    return SPACE.fullmatch(statement.rest) if statement.word in (".space", ".zero", ".skip") else None


def reserved(statement: Statement, label: str, layout: Layout) -> Variable:
    """Return the variable for which a statement reserves space."""
    match = shape(statement)
    name = match["name"] if match else ""
    return Variable(statement.address, label, name, statement.size // max(size_of(name, statement, layout), 1))


def size_of(name: str, statement: Statement, layout: Layout) -> int:
    """Return the bytes of a structure; AsmError if there is none."""
    finder = layout.names.finder(statement.scope, statement.address)
    return evaluate(f"sizeof({name})", statement.line.place, statement.column, finder)


def declared(statement: Statement, labels: list[str], layout: Layout) -> list[Variable]:
    """Return the variables that `.layout` declares."""
    place = statement.line.place.at(statement.column)
    parts = split_arguments(statement.rest) if statement.rest else []
    if not labels or not 1 <= len(parts) <= 2 or not NAME.fullmatch(parts[0]):
        hint = "write name: .layout Structure, or .layout Structure, COUNT"
        raise AsmError(place, ".layout wants a label before it, and a structure", hint)
    size_of(parts[0], statement, layout)
    count = 1
    if len(parts) == 2:
        finder = layout.names.finder(statement.scope, statement.address)
        count = evaluate(parts[1], statement.line.place, statement.column, finder)
        if count < 1:
            raise AsmError(place, ".layout declares one structure or more", "write how many, or leave it out")
    return [Variable(statement.address, label, parts[0], count) for label in labels]
