"""Cases of registers and memory alone, made ready when they are collected: what they set, call and expect as numbers.

Most cases set registers and memory, call a routine and compare registers, flags, memory and the number of instructions.
Such a case is run without the parts of `CaseRun` and of the machine that are for all others.  It holds, or nothing is
known: then it is run in the ordinary way, which says what is wrong, or that it is no such case after all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import pack
from typing import TYPE_CHECKING, Final, NamedTuple

from callgate.asm.assembler import AsmError, Program
from callgate.asm.assembler.language.macros import split_arguments
from callgate.kernel.machine.beginning import Stores
from callgate.tools.asmtest.board.board import FIRST_FREE, MEMORY, RETURN, STACK_TOP, values_at_entry
from callgate.tools.asmtest.board.result import FLAGS, PARTS, WHOLE
from callgate.tools.asmtest.cases.directives import Case, Relation, Statement, relations
from callgate.tools.asmtest.cases.values import bits_of, memory_operand, string_bytes, value_of

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.cpu import BareCpu

WORDS: Final = frozenset(("set", "call", "code", "expect", "each", "skip", "xfail", "mark"))
RETURNED: Final = ("returned", None)  # the request of the probe at `board.RETURN`
TOP: Final = STACK_TOP - 4  # where the return address lies
STORES: Final[Stores] = ((slice(TOP, STACK_TOP), pack("<I", RETURN)),)
# Places among the values after the call, after the registers.
EFLAGS, INSTRUCTIONS, MEMORY_READ = len(WHOLE), len(WHOLE) + 1, len(WHOLE) + 2
FLAGS_MASK: Final = 0xFFFF_FFFF
MOST: Final = 1 << 64  # no value is greater
Check = tuple[int, int, int, int, int, bool]
"""Which value, its shift and its mask; the least and the greatest one; whether it is to be between them."""


class Ready(NamedTuple):
    """A case of registers and memory.  Numbers side by side: Python's search for garbage has little to look at."""

    general: array[int]  # in the order of their numbers, ESP at the return address
    eflags: int
    eip: int
    stores: Stores  # before the call, the return address among them
    checks: tuple[Check, ...]
    reads: tuple[slice, ...]  # of memory after the call
    flags: bool  # whether EFLAGS is compared


class OtherCase(Exception):
    """A case of other things than registers and memory."""


def ready(case: Case, program: Program) -> Ready | None:
    """Return a case made ready; None for one of other things, or with a mistake."""
    if not case.by_word.keys() <= WORDS:
        return None
    try:
        return _ready(case, program)
    except (OtherCase, AsmError):
        return None


def _ready(case: Case, program: Program) -> Ready:
    given: dict[str, int] = {}
    stores: list[tuple[slice, bytes]] = []
    for statement in case.all("set"):
        for relation in relations(statement):
            _set(relation, given, stores, program)
    call = case.one("call")
    target = call.rest if call else case.label
    if target not in program.symbols:
        raise OtherCase
    values, eflags = values_at_entry((), given)
    reads: list[slice] = []
    checks = tuple(check for statement in case.all("expect") for check in _checks(statement, values, reads, program))
    general = array("I", (values | {"esp": TOP}).values())
    flags = any(check[0] == EFLAGS for check in checks)
    ready_stores = (*stores, *STORES) if stores else STORES
    return Ready(general, eflags, program.address(target), ready_stores, checks, tuple(reads), flags)


def _set(relation: Relation, given: dict[str, int], stores: list[tuple[slice, bytes]], program: Program) -> None:
    """Add what a relation sets to registers and flags, or to stores; OtherCase for all else."""
    name, statement = relation.left, relation.statement
    if relation.operator != "=":
        raise OtherCase
    memory = memory_operand(name, statement, program)
    if memory is not None:
        data = string_bytes(relation.right, statement)
        if data is None:
            data = _number(relation, 8 * memory[1], program).to_bytes(memory[1], "little")
        stores.append((_span(memory[0], len(data)), data))
    elif name != "esp" and (name in WHOLE or name in FLAGS):  # a stack elsewhere may lie where there is no memory
        given[name] = _number(relation, bits_of(name), program)
    else:
        raise OtherCase


def _span(address: int, size: int) -> slice:
    """Return where memory that is a test's own lies; OtherCase for other memory, page tables for one."""
    if not (address >= FIRST_FREE and address + size <= MEMORY and size):
        raise OtherCase
    return slice(address, address + size)


def _number(relation: Relation, bits: int, program: Program) -> int:
    """Return the number at the right of a relation as one of `bits` bits; OtherCase if it does not fit."""
    value = value_of(relation.right, relation.statement, program)
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise OtherCase
    return value & (1 << bits) - 1


def _checks(statement: Statement, entry: dict[str, int], reads: list[slice], program: Program) -> Iterator[Check]:
    """Yield what a line expects; memory that it looks at is added to `reads`."""
    word, _, rest = statement.rest.partition(" ")
    if word == "unchanged":
        for name in split_arguments(rest) or [""]:
            if name not in WHOLE:
                raise OtherCase
            yield WHOLE.index(name), 0, FLAGS_MASK, entry[name], entry[name], True
        return
    if word in ("fault", "events", "never") or ":" in statement.rest:
        raise OtherCase
    for relation in relations(statement):
        memory = memory_operand(relation.left, statement, program)
        if memory is not None:
            data = string_bytes(relation.right, statement)
            size = memory[1] if data is None else len(data)
            wanted = _number(relation, 8 * size, program) if data is None else int.from_bytes(data, "little")
            if data is not None and relation.operator not in ("=", "!="):
                raise OtherCase
            reads.append(_span(memory[0], size))
            yield MEMORY_READ + len(reads) - 1, 0, (1 << 8 * size) - 1, *_range(relation.operator, wanted)
            continue
        number = _number(relation, bits_of(relation.left), program)
        yield *_place(relation.left), *_range(relation.operator, number)


def _place(name: str) -> tuple[int, int, int]:
    """Return where a register, a part of one, a flag or the number of instructions is: which value, shift and mask."""
    if name in WHOLE:
        return WHOLE.index(name), 0, FLAGS_MASK
    if name in PARTS:
        whole, shift, mask = PARTS[name]
        return WHOLE.index(whole), shift, mask
    if name in FLAGS:
        return EFLAGS, FLAGS[name], 1
    if name == "instructions":
        return INSTRUCTIONS, 0, MOST - 1
    raise OtherCase


def _range(operator: str, wanted: int) -> tuple[int, int, bool]:
    """Return the least and the greatest value that an operator means, and whether these are wanted or the others."""
    if operator in ("=", "!="):
        return wanted, wanted, operator == "="
    if operator in ("<", ">="):
        return 0, wanted - 1, operator == "<"
    return 0, wanted, operator == "<="


def holds(case: Ready, program: Program, cpu: BareCpu) -> bool:
    """Whether a case holds; False also if it has to be run in the ordinary way.  KeyboardInterrupt at Ctrl-C."""
    beginning, machine = cpu.beginning, cpu.machine
    if beginning is None or cpu.loaded is not program or cpu.probes:
        return False
    cpu.calls += 1
    if not beginning.run(case.general, case.eflags, case.eip, case.stores, RETURNED):
        if machine.control.interrupted:
            machine.control.clear()
            raise KeyboardInterrupt
        return False
    found = beginning.general()
    found.append(machine.cpu.eflags if case.flags else 0)
    found.append(beginning.retired())
    for place in case.reads:
        found.append(int.from_bytes(cpu.ram.low[place], "little"))
    for index, shift, mask, least, greatest, inside in case.checks:
        if (least <= (found[index] >> shift & mask) <= greatest) is not inside:
            return False
    return True
