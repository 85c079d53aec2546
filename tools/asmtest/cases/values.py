"""The meaning of names in a case: registers, flags, memory, costs; and the values beside them."""

from __future__ import annotations

import ctypes
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler import AsmError, Program
from callgate.asm.assembler.encoding.data import string_bytes as quoted
from callgate.asm.assembler.language.expressions import PLAIN, Unresolved, evaluate
from callgate.kernel.abi import constants
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.machine.observation.ledger import SITE_NAMES
from callgate.tools.asmtest.bare.convention import Argument
from callgate.tools.asmtest.board import wide
from callgate.tools.asmtest.board.result import FLAGS, PARTS, WHOLE, CallResult
from callgate.tools.asmtest.cases.directives import Relation, Statement

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.cpu import BareCpu

MEMORY = re.compile(r"(?:(?P<size>byte|word|dword|qword)\s+)?(?:ptr\s+)?\[(?P<address>[^\]]+)\]$")
SIZES: Final = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COST_BITS: Final = 64
COSTS: Final = ("instructions", "host_calls", *SITE_NAMES)
SELECTORS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "eflags")
READABLE: Final = (*WHOLE, *PARTS, *FLAGS, *SELECTORS, *COSTS)


def value_of(text: str, statement: Statement, program: Program) -> int:
    """Return the value of an expression: numbers, constants of the ABI, labels; AsmError names the mistake."""
    if PLAIN.fullmatch(text):  # mostly: spare the rest, which is there for what may be wrong
        return int(text, 0)
    table = constants()

    def lookup(name: str) -> int:
        if name in program.symbols:
            return program.symbols[name].address
        if name in table:
            return table[name]
        raise Unresolved(name)

    column = statement.place.text.find(text) + 1 if text else len(statement.place.text) + 1
    column = column or statement.place.column
    try:
        return evaluate(text, statement.place.at(column), column, lookup)
    except Unresolved as missing:
        name = str(missing)
        hint = did_you_mean(name, [*program.symbols, *table]) or "a value is a number, a label or a constant"
        raise AsmError(statement.place.at(column), f"there is no {name}", hint) from None


def memory_operand(text: str, statement: Statement, program: Program) -> tuple[int, int] | None:
    """Return (address, bytes) of `dword [0x1000]`; None if the text is not a memory operand."""
    match = MEMORY.match(text)
    if match is None:
        return None
    return value_of(match["address"], statement, program), SIZES[match["size"] or "dword"]


def string_bytes(text: str, statement: Statement) -> bytes | None:
    """Return the bytes of a quoted string, with the escapes of the assembler; None if the text is not one."""
    if not text.startswith('"'):
        return None
    return quoted(text, statement.place.at(statement.place.text.find(text) + 1 or statement.place.column))


def wide_value(name: str, text: str, statement: Statement, program: Program) -> wide.Wide:
    """Return the value that is written for one of the wide registers."""
    try:
        return wide.parse(text, name, lambda item: value_of(item, statement, program))
    except ValueError as error:
        raise statement.error(str(error), f"{name} has {wide.BITS[name]} bits; see docs/testing.md") from None


def argument_of(text: str, statement: Statement, program: Program, cpu: BareCpu) -> Argument:
    """Return an argument: a value, `[address]` for the memory there, a text, a number with a point, `float(1.5)`."""
    data = string_bytes(text, statement)
    if data is not None:
        return data + b"\0"
    match = re.fullmatch(r"(qword|float)\s*\((.*)\)", text)
    if match is not None and match[1] == "float":
        return (
            ctypes.c_float(float(match[2]))
            if wide.DECIMAL.match(match[2])
            else ctypes.c_float(value_of(match[2], statement, program))
        )
    if match is not None:
        return ctypes.c_uint64(value_of(match[2], statement, program) & (1 << SIZES[match[1]] * 8) - 1)
    if wide.DECIMAL.match(text):
        return float(text)
    memory = memory_operand(text, statement, program)
    if memory is not None:
        number = int.from_bytes(cpu.read(*memory), "little")
        return ctypes.c_uint64(number) if memory[1] == SIZES["qword"] else number
    value = value_of(text, statement, program)
    if not -(1 << 31) <= value < 1 << 32:
        raise statement.error(f"{text} has more than 32 bits", f"write qword({text})")
    return value


def holds(relation: Relation, actual: int, bits: int, program: Program) -> str | None:
    """Return why a relation does not hold, None if it does; values are unsigned numbers of `bits`."""
    wanted = value_of(relation.right, relation.statement, program)
    if not -(1 << bits - 1) <= wanted < 1 << bits:
        raise relation.statement.error(f"{relation.right} does not fit into the {bits} bits of {relation.left}")
    if COMPARE[relation.operator](actual, wanted & (1 << bits) - 1):
        return None
    shown = f"{actual}" if actual < 10 or bits == COST_BITS else f"{actual:#x}"
    return f"{relation.left} is {shown}, expected {relation.operator} {relation.right}"


def failure(relation: Relation, cpu: BareCpu, result: CallResult, program: Program) -> str | None:
    """Return why one expectation does not hold after a run, None if it does."""
    name = relation.left
    memory = memory_operand(name, relation.statement, program)
    if memory is not None:
        data = string_bytes(relation.right, relation.statement)
        if data is not None:
            found = cpu.read(memory[0], len(data))
            wrong = (found != data) != (relation.operator == "!=")
            return f"{name} holds {found!r}, expected {relation.operator} {data!r}" if wrong else None
        actual = int.from_bytes(cpu.read(*memory), "little")
        return holds(relation, actual, memory[1] * 8, program)
    if name.startswith("host_calls."):
        wanted = name.partition(".")[2].lower()
        known = [call.name.lower() for call in HostCall]
        if wanted not in known:
            hint = did_you_mean(wanted, known) or f"there are {', '.join(known)}"
            raise relation.statement.error(f"there is no host call {wanted}", hint)
        return holds(relation, result.ledger.host_calls.get(wanted, 0), COST_BITS, program)
    if name in wide.BITS:
        wanted_value = wide_value(name, relation.right, relation.statement, program)
        return wide.wrong(cpu.machine.fpu, name, relation.operator, wanted_value, relation.right)
    if name not in READABLE:
        hint = (
            did_you_mean(name, [*READABLE, *wide.BITS])
            or f"there are registers, flags, dword [address] and {', '.join(COSTS)}"
        )
        raise relation.statement.error(f"there is no {name}", hint)
    if name in WHOLE:
        return holds(relation, result.registers[name], 32, program)
    if name in SITE_NAMES:
        return holds(relation, int(getattr(result.ledger, name)), COST_BITS, program)
    return holds(relation, int(getattr(result, name)), bits_of(name), program)


def bits_of(name: str) -> int:
    """Return the width of a register, flag or cost."""
    if name in FLAGS:
        return 1
    if name in PARTS:
        return int(PARTS[name][2]).bit_length()
    return COST_BITS if name in COSTS else 32
