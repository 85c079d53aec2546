"""Space whose size depends on itself: `a: .space b - a`, `b:` would be right with any size.

Each such statement is made larger for a trial: the names after it move. If that changes its own size, or the size of
one that its size depends on in turn, its size depends on itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from callgate.asm.assembler.language.errors import AsmError
from callgate.asm.assembler.language.names import Constant, Label, Names
from callgate.asm.assembler.language.statements import Chunk, Statement

SizeOf = Callable[[Statement, Chunk], int]

NAMES_SOMETHING: Final = re.compile(r"[A-Za-z_.$][\w.$]*|[0-9]+[bf]\b")
NUMBER: Final = re.compile(r"0[xXbBoO]\w+")
TRIALS: Final = (1, 1 << 20)  # bytes: a little, and more than any alignment
MUTUAL_LIMIT: Final = 100  # statements that are compared with each other; beyond that, each only with itself


def find_self_sized(chunks: Iterable[Chunk], defined: Names, size_of: SizeOf) -> list[Statement]:
    """Return the statements whose size depends on itself; addresses must have settled.

    `size_of` computes a size from the names as they are, or raises AsmError.
    """
    spaces: list[tuple[int, Statement, Chunk]] = []
    names: list[tuple[int, Label | Constant]] = []
    order = 0
    for chunk in chunks:
        for statement in chunk.statements:
            order += 1
            if statement.kind == "label":
                names.append((order, defined.labels[statement.word]))
            elif statement.kind == "here":
                names.append((order, defined.constants[statement.word]))
            elif (
                statement.kind == "space"
                and statement.word != ".incbin"
                and NAMES_SOMETHING.search(NUMBER.sub("", statement.rest))
            ):
                spaces.append((order, statement, chunk))
    if not spaces:
        return []
    changes = {}
    for place, statement, _ in spaces:
        behind = [name for order, name in names if order > place]
        others = spaces if len(spaces) <= MUTUAL_LIMIT else [(place, statement, _)]
        changes[id(statement)] = changed(size_of, others, place, behind)
    return [statement for _, statement, _ in spaces if reaches_itself(id(statement), changes)]


def changed(
    size_of: SizeOf, spaces: list[tuple[int, Statement, Chunk]], place: int, behind: list[Label | Constant]
) -> set[int]:
    """Return the statements whose size changes when the names after a place move."""
    found: set[int] = set()
    for amount in TRIALS:
        move(behind, amount)
        for order, statement, chunk in spaces:
            statement.address += amount * (order > place)
            if trial_size(size_of, statement, chunk) != statement.size:
                found.add(id(statement))
            statement.address -= amount * (order > place)
        move(behind, -amount)
    return found


def move(names: list[Label | Constant], amount: int) -> None:
    """Move names this many bytes further away."""
    for name in names:
        if isinstance(name, Label):
            name.address = (name.address or 0) + amount
        else:
            name.here += amount


def trial_size(size_of: SizeOf, statement: Statement, chunk: Chunk) -> int:
    """Return the size that a statement would have."""
    try:
        return size_of(statement, chunk)
    except AsmError:
        return -1


def reaches_itself(start: int, changes: dict[int, set[int]]) -> bool:
    """Whether a change of a statement's size comes back to it."""
    seen: set[int] = set()
    waiting = list(changes[start])
    while waiting:
        item = waiting.pop()
        if item == start:
            return True
        if item not in seen:
            seen.add(item)
            waiting += changes.get(item, ())
    return False
