"""Unwinds with .debug_frame as a debugger does; pyelftools reads the section, expressions are evaluated here."""

import io
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.elf.elffile import ELFFile

NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags")
ESP, EIP = 4, 8
Rules = dict[int, tuple[str, Any]]
MASK = 0xFFFF_FFFF
FRAMES_LIMIT = 64


class SignalFrames(CallFrameInfo):
    """Reads the augmentation "S", which GNU as writes into .debug_frame and pyelftools knows in .eh_frame only."""

    def _parse_cie_augmentation(self, header: Any, entry_structs: Any) -> Any:
        if header.get("augmentation") == b"S":
            return b"", {}
        return super()._parse_cie_augmentation(header, entry_structs)


class NoFrame(Exception):
    """No row covers an address."""


@dataclass
class Frame:
    """Registers by DWARF number; a register that is not known is missing."""

    registers: dict[int, int]

    @property
    def eip(self) -> int:
        """Where it goes on."""
        return self.registers[EIP]


class Tables:
    """The rows of one file."""

    def __init__(self, image: bytes) -> None:
        self.dwarf = dwarf = ELFFile(io.BytesIO(image)).get_dwarf_info()
        section = dwarf.debug_frame_sec
        reader = SignalFrames(section.stream, section.size, section.address, dwarf.structs)
        entries = [item for item in reader.get_entries() if isinstance(item, FDE)]
        self.entries = sorted(entries, key=lambda item: item["initial_location"])
        self.starts = [entry["initial_location"] for entry in self.entries]
        self.rows: dict[int, list[Row]] = {}

    def entry(self, address: int) -> Any:
        """Return the FDE that covers an address; NoFrame."""
        index = bisect_right(self.starts, address) - 1
        if index < 0 or address >= self.starts[index] + self.entries[index]["address_range"]:
            raise NoFrame(hex(address))
        return self.entries[index]

    def row(self, address: int) -> "Row":
        """Return the rules at an address; NoFrame."""
        entry = self.entry(address)
        start = entry["initial_location"]
        if start not in self.rows:
            self.rows[start] = list(rows_of(entry))
        return [row for row in self.rows[start] if row.address <= address][-1]


@dataclass(frozen=True)
class Row:
    """Rules from an address on: the CFA as register and offset, others by register as operation and operand."""

    address: int
    cfa: tuple[int, int]
    rules: Rules


def rows_of(entry: Any) -> Iterator[Row]:
    """Yield the rows of an FDE (DWARF 3, 6.4.2); pyelftools has split the instructions."""
    row = Row(entry["initial_location"], (0, 0), {})
    for item in entry.cie.instructions:
        row = applied(row, item.opcode, item.args, {}, [])
    initial, kept = row.rules, []
    for item in entry.instructions:
        if item.opcode >> 6 == 1 or 2 <= item.opcode <= 4:
            yield row
            row = Row(row.address + item.args[0], row.cfa, row.rules)
        else:
            row = applied(row, item.opcode, item.args, initial, kept)
    yield row


def applied(row: Row, code: int, args: Any, initial: Rules, kept: list[Row]) -> Row:
    """Return the row after one instruction."""
    if code in (0x0C, 0x12):  # DW_CFA_def_cfa, DW_CFA_def_cfa_sf
        return Row(row.address, (args[0], args[1] * (-4 if code == 0x12 else 1)), row.rules)
    if code in (0x0E, 0x13):  # DW_CFA_def_cfa_offset, DW_CFA_def_cfa_offset_sf
        return Row(row.address, (row.cfa[0], args[0] * (-4 if code == 0x13 else 1)), row.rules)
    if code == 0x0D:  # DW_CFA_def_cfa_register
        return Row(row.address, (args[0], row.cfa[1]), row.rules)
    if code == 0x0A:  # DW_CFA_remember_state
        kept.append(row)
        return row
    if code == 0x0B:  # DW_CFA_restore_state
        return replace(kept.pop(), address=row.address)
    return row if code == 0 else replace(row, rules=ruled(row.rules, code, args, initial))  # 0: DW_CFA_nop


def ruled(before: Rules, code: int, args: Any, initial: Rules) -> Rules:
    """Return the registers' rules after one instruction."""
    rules = dict(before)
    if code >> 6 == 3 or code == 0x06:  # DW_CFA_restore, DW_CFA_restore_extended
        rules.pop(args[0], None)
        rules.update({args[0]: initial[args[0]]} if args[0] in initial else {})
    elif code >> 6 == 2 or code in (0x05, 0x11):  # DW_CFA_offset, and its extended forms
        rules[args[0]] = ("offset", args[1] * -4)
    elif code in (0x14, 0x15):  # DW_CFA_val_offset, DW_CFA_val_offset_sf
        rules[args[0]] = ("value", args[1] * -4)
    elif code == 0x16:  # DW_CFA_val_expression
        rules[args[0]] = ("expression", bytes(args[1]))
    else:
        rules[args[0]] = ({0x07: "undefined", 0x08: "same", 0x09: "register"}[code], args[1:])
    return rules


Memory = Callable[[int], int]


def unwind(frame: Frame, tables: Tables, memory: Memory, called: bool) -> Frame | None:
    """Return the caller's frame, None if there is none; NoFrame.  `called`: EIP is the return address of a call."""
    address = frame.eip - 1 if called else frame.eip
    row = tables.row(address)
    cfa = (frame.registers[row.cfa[0]] + row.cfa[1]) & MASK
    registers = dict(frame.registers)
    registers[ESP] = cfa
    for number, (rule, operand) in row.rules.items():
        if rule == "undefined":
            registers.pop(number, None)
        elif rule == "offset":
            registers[number] = memory((cfa + operand) & MASK)
        elif rule == "value":
            registers[number] = (cfa + operand) & MASK
        elif rule == "expression":
            registers[number] = evaluate(operand, cfa, memory)
        elif rule != "same":
            raise AssertionError(rule)
    if EIP not in registers:
        return None
    return Frame(registers)


def frames(start: Frame, tables_for: Callable[[int], Tables], memory: Memory) -> Iterator[Frame]:
    """Yield all frames from the innermost on; NoFrame."""
    frame: Frame | None = start
    called = False
    count = 0
    while frame is not None:
        yield frame
        count += 1
        if count > FRAMES_LIMIT:
            raise NoFrame("too many frames")
        tables = tables_for(frame.eip)
        signal = b"S" in tables.entry(frame.eip - called).cie["augmentation"]
        frame = unwind(frame, tables, memory, called)
        called = not signal


def evaluate(expression: bytes, cfa: int, memory: Memory) -> int:
    """Return the value of a DWARF expression that begins with the CFA on its stack (DWARF 3, 2.5)."""
    stack, at = [cfa], 0
    while at < len(expression):
        operation, at = expression[at], at + 1
        if operation == 0x08:  # DW_OP_const1u
            stack.append(expression[at])
            at += 1
        elif operation == 0x0C:  # DW_OP_const4u
            stack.append(struct.unpack_from("<I", expression, at)[0])
            at += 4
        elif operation == 0x12:  # DW_OP_dup
            stack.append(stack[-1])
        elif operation == 0x16:  # DW_OP_swap
            stack[-2:] = stack[:-3:-1]
        elif operation == 0x06:  # DW_OP_deref
            stack.append(memory(stack.pop()))
        elif operation in (0x28, 0x2F):  # DW_OP_bra, DW_OP_skip
            offset = struct.unpack_from("<h", expression, at)[0]
            at += 2
            if operation == 0x2F or stack.pop():
                at += offset
        else:
            right, left = stack.pop(), stack.pop()
            stack.append({0x1A: left & right, 0x1C: left - right, 0x22: left + right}[operation] & MASK)
    return stack.pop()
