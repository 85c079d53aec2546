"""Call frame instructions (DWARF 3, 6.4.2 and 7.23), in the forms that GNU as chooses."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from callgate.asm.assembler.output.debug.frame_state import TOP_SIZES, TRACKED, State
from callgate.asm.assembler.output.debug.leb128 import sleb, uleb
from callgate.asm.assembler.output.frame_sites import DWARF_REGISTERS

DATA_ALIGN: Final = -4
SHORT_LIMIT: Final = 0x40  # registers and distances below it fit into the opcode
ADVANCE_LOC, OFFSET, RESTORE = 0x40, 0x80, 0xC0
ADVANCE_LOC1, ADVANCE_LOC2, ADVANCE_LOC4, OFFSET_EXTENDED, RESTORE_EXTENDED = 0x02, 0x03, 0x04, 0x05, 0x06
UNDEFINED, SAME_VALUE, REGISTER, REMEMBER_STATE, RESTORE_STATE = 0x07, 0x08, 0x09, 0x0A, 0x0B
DEF_CFA, DEF_CFA_REGISTER, DEF_CFA_OFFSET = 0x0C, 0x0D, 0x0E
OFFSET_EXTENDED_SF, DEF_CFA_SF, DEF_CFA_OFFSET_SF, VAL_OFFSET, VAL_OFFSET_SF = 0x11, 0x12, 0x13, 0x14, 0x15
VAL_EXPRESSION = 0x16
OP_DEREF, OP_CONST1U, OP_CONST4U, OP_DUP, OP_SWAP = 0x06, 0x08, 0x0C, 0x12, 0x16
OP_AND, OP_MINUS, OP_PLUS, OP_BRANCH, OP_SKIP = 0x1A, 0x1C, 0x22, 0x28, 0x2F
ESP, EBP, EIP = DWARF_REGISTERS["esp"], DWARF_REGISTERS["ebp"], DWARF_REGISTERS["eip"]
RING_MASK: Final = 3
WORD: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Row:
    """The rules at an address: the CFA as register and offset, and for registers the instruction that says them."""

    cfa: tuple[int, int]
    rules: dict[int, bytes] = field(default_factory=dict)


def row_of(state: State, bias: int) -> Row:
    """Return the rules of a frame; its CFA is the top less `bias`."""
    if not state.known:
        return Row((ESP, 4 - bias), {ESP: offset_is(ESP, bias), EIP: plain(UNDEFINED, EIP)})
    top = (EBP, state.alias or 0) if state.by_alias else (ESP, state.depth)
    size = TOP_SIZES[state.kind]
    rules = {EIP: saved_at(EIP, bias - size)}
    if state.kind == "call":
        if bias:
            rules[ESP] = offset_is(ESP, bias)
    else:
        rules[DWARF_REGISTERS["cs"]] = saved_at(DWARF_REGISTERS["cs"], bias - size + 4)
        rules[ESP] = saved_at(ESP, bias - 8) if state.kind == "gate" else interrupted_stack(bias)
        if state.kind == "gate":
            rules[DWARF_REGISTERS["ss"]] = saved_at(DWARF_REGISTERS["ss"], bias - 4)
        else:
            rules[DWARF_REGISTERS["eflags"]] = saved_at(DWARF_REGISTERS["eflags"], bias - 12)
    for name, (live, slot) in zip(TRACKED, state.kept, strict=True):
        number = DWARF_REGISTERS[name]
        if slot is not None:
            rules.setdefault(number, saved_at(number, bias + slot))
        elif not live and name != "eflags":
            rules.setdefault(number, plain(UNDEFINED, number))
    return Row((top[0], top[1] - bias), rules)


def interrupted_stack(bias: int) -> bytes:
    """Return the rule of ESP after an interrupt: pushed if CS is of ring 3, else above what was pushed."""
    length = struct.pack("<BI", OP_CONST4U, bias & WORD) + bytes([OP_PLUS]) if bias else b""
    pushed = bytes([OP_DUP, OP_CONST1U, 8, OP_MINUS, OP_SWAP, OP_CONST1U, 16, OP_MINUS, OP_DEREF])
    tested = bytes([OP_CONST1U, RING_MASK, OP_AND, OP_BRANCH, 3, 0, OP_SKIP, 1, 0, OP_DEREF])
    expression = length + pushed + tested
    return bytes([VAL_EXPRESSION, ESP]) + uleb(len(expression)) + expression


def plain(operation: int, register: int) -> bytes:
    """Return an instruction whose operand is a register."""
    return bytes([operation]) + uleb(register)


def saved_at(register: int, offset: int) -> bytes:
    """Return that a register is saved at CFA + `offset`, a multiple of 4."""
    factored = offset // DATA_ALIGN
    if factored < 0:
        return plain(OFFSET_EXTENDED_SF, register) + sleb(factored)
    if register < SHORT_LIMIT:
        return bytes([OFFSET | register]) + uleb(factored)
    return plain(OFFSET_EXTENDED, register) + uleb(factored)


def offset_is(register: int, offset: int) -> bytes:
    """Return that a register's value is CFA + `offset`."""
    factored = offset // DATA_ALIGN
    if factored < 0:
        return plain(VAL_OFFSET_SF, register) + sleb(factored)
    return plain(VAL_OFFSET, register) + uleb(factored)


def restored(register: int) -> bytes:
    """Return that the rule of the CIE holds for a register."""
    if register < SHORT_LIMIT:
        return bytes([RESTORE | register])
    return plain(RESTORE_EXTENDED, register)


def cfa_is(register: int, offset: int) -> bytes:
    """Return the rule of the CFA."""
    if offset < 0:
        return plain(DEF_CFA_SF, register) + sleb(offset // DATA_ALIGN)
    return plain(DEF_CFA, register) + uleb(offset)


def cfa_offset_is(offset: int) -> bytes:
    """Return the rule of the CFA, of the same register."""
    if offset < 0:
        return bytes([DEF_CFA_OFFSET_SF]) + sleb(offset // DATA_ALIGN)
    return bytes([DEF_CFA_OFFSET]) + uleb(offset)


def advanced(distance: int) -> bytes:
    """Return that what follows holds `distance` bytes further on."""
    if distance < SHORT_LIMIT:
        return bytes([ADVANCE_LOC | distance])
    if distance < 1 << 8:
        return struct.pack("<BB", ADVANCE_LOC1, distance)
    if distance < 1 << 16:
        return struct.pack("<BH", ADVANCE_LOC2, distance)
    return struct.pack("<BI", ADVANCE_LOC4, distance)


def changes(before: Row, after: Row, initial: Row) -> bytes:
    """Return the instructions that lead from one row to another, in a routine whose CIE begins with `initial`."""
    out = b""
    if before.cfa != after.cfa:
        out += cfa_offset_is(after.cfa[1]) if before.cfa[0] == after.cfa[0] else cfa_is(*after.cfa)
    for register in sorted(before.rules.keys() | after.rules.keys()):
        rule = after.rules.get(register)
        if rule == before.rules.get(register):
            continue
        if rule is None:
            rule = restored(register) if register in initial.rules else plain(SAME_VALUE, register)
        out += rule
    return out
