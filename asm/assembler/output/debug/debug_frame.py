"""The section .debug_frame (DWARF 2 to 4, 6.4.1): directives as GNU as writes them, and frames found by analysis."""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler.output.debug import frame_rules as rules
from callgate.asm.assembler.output.debug.frame_rules import EIP, ESP, Row, changes, row_of
from callgate.asm.assembler.output.debug.frame_state import UNKNOWN, State, entered
from callgate.asm.assembler.output.debug.frames import stack_states
from callgate.asm.assembler.output.debug.leb128 import sleb, uleb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from callgate.asm.assembler.output.unit import FrameSite, Section, Unit

CIE_ID: Final = 0xFFFF_FFFF
VERSION: Final = 1
SIGNAL: Final = b"S"  # augmentation: the caller was interrupted at its EIP, it did not call
NOP: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Common:
    """What a CIE says: the first instructions, the column of the return address, whether it is a signal frame."""

    instructions: bytes
    signal: bool = False
    column: int = EIP


@dataclass(frozen=True, slots=True)
class Description:
    """An FDE: the addresses that it covers, and its instructions."""

    common: Common
    start: int
    end: int
    instructions: bytes


def frame_section(program: Unit) -> bytes:
    """Return .debug_frame of a unit; empty without code."""
    written = [described(sites) for sites in procedures(program.frame_sites)]
    ranges = sorted((item.start, item.end) for item in written)
    found = list(found_frames(program, ranges))
    return encoded(sorted(written + found, key=lambda item: item.start))


def encoded(descriptions: Iterable[Description]) -> bytes:
    """Return the section: each CIE before the first FDE that refers to it."""
    out = bytearray()
    places: dict[Common, int] = {}
    for item in descriptions:
        if item.common not in places:
            places[item.common] = len(out)
            out += entry(struct.pack("<IB", CIE_ID, VERSION) + heading(item.common))
        place = struct.pack("<III", places[item.common], item.start, item.end - item.start)
        out += entry(place + item.instructions)
    return bytes(out)


def heading(common: Common) -> bytes:
    """Return the rest of a CIE after its version."""
    augmentation = (SIGNAL if common.signal else b"") + b"\0"
    return augmentation + uleb(1) + sleb(rules.DATA_ALIGN) + bytes([common.column]) + common.instructions


def entry(body: bytes) -> bytes:
    """Return an entry with its length, filled up to 4 bytes."""
    body += NOP * (-len(body) % 4)
    return struct.pack("<I", len(body)) + body


def procedures(sites: Iterable[FrameSite]) -> Iterator[list[FrameSite]]:
    """Yield the directives from each `.cfi_startproc` to its `.cfi_endproc`."""
    opened: list[FrameSite] = []
    for site in sites:
        if site.word == ".cfi_startproc":
            opened = [site]
        elif site.word.startswith(".cfi_"):
            opened.append(site)
            if site.word == ".cfi_endproc":
                yield opened


def described(sites: list[FrameSite]) -> Description:
    """Return what directives say."""
    begin, *body, end = sites
    initial = b"" if begin.name else rules.cfa_is(ESP, 4) + rules.saved_at(EIP, -4)
    signal = any(site.word == ".cfi_signal_frame" for site in body)
    column = next((site.operands[0] for site in body if site.word == ".cfi_return_column"), EIP)
    writer = DirectiveWriter(begin.address, 0 if begin.name else 4)
    for site in body:
        writer.add(site)
    return Description(Common(initial, signal, column), begin.address, end.address, bytes(writer.out))


class DirectiveWriter:
    """Writes directives one after the other; it follows the offset of the CFA, to which some refer."""

    def __init__(self, address: int, offset: int) -> None:
        self.out = bytearray()
        self.address = address
        self.offset = offset
        self.remembered: list[int] = []

    def add(self, site: FrameSite) -> None:
        """Write a directive."""
        code = self._code(site.word, site.operands)
        if code and site.address != self.address:
            self.out += rules.advanced(site.address - self.address)
            self.address = site.address
        self.out += code

    def _code(self, word: str, operands: tuple[int, ...]) -> bytes:
        match word, operands:
            case ".cfi_def_cfa", (register, offset):
                self.offset = offset
                return rules.cfa_is(register, offset)
            case ".cfi_def_cfa_offset", (offset,):
                self.offset = offset
                return rules.cfa_offset_is(offset)
            case ".cfi_adjust_cfa_offset", (difference,):
                self.offset += difference
                return rules.cfa_offset_is(self.offset)
            case ".cfi_remember_state", ():
                self.remembered.append(self.offset)
                return bytes([rules.REMEMBER_STATE])
            case ".cfi_restore_state", ():
                self.offset = self.remembered.pop()
                return bytes([rules.RESTORE_STATE])
            case ".cfi_rel_offset", (register, offset):
                return rules.saved_at(register, offset - self.offset)
        return self._rule(word, operands)

    def _rule(self, word: str, operands: tuple[int, ...]) -> bytes:
        match word, operands:
            case ".cfi_def_cfa_register", (register,):
                return rules.plain(rules.DEF_CFA_REGISTER, register)
            case ".cfi_offset", (register, offset):
                return rules.saved_at(register, offset)
            case ".cfi_val_offset", (register, offset):
                return rules.offset_is(register, offset)
            case ".cfi_register", (register, holder):
                return rules.plain(rules.REGISTER, register) + uleb(holder)
            case ".cfi_restore", (register,):
                return rules.restored(register)
            case ".cfi_undefined", (register,):
                return rules.plain(rules.UNDEFINED, register)
            case ".cfi_same_value", (register,):
                return rules.plain(rules.SAME_VALUE, register)
            case ".cfi_escape", _:
                return bytes(operands)
        return b""


def found_frames(program: Unit, written: list[tuple[int, int]]) -> Iterator[Description]:
    """Yield what the analysis finds, for the code that no directives describe."""
    if not program.lines:
        return
    bias = next((site.operands[0] for site in program.frame_sites if site.word == ".frame_bias"), 0)
    states = stack_states(program)
    order = sorted(states)
    labels = sorted({symbol.address for symbol in program.symbols.values() if symbol.kind == "label"})
    for section in program.sections:
        if not section.executable:
            continue
        for start, end in gaps(section, labels, written):
            inside = order[bisect_left(order, start) : bisect_left(order, end)]
            yield from pieces(inside, end, states, bias)


def gaps(section: Section, labels: list[int], written: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a section between labels, without what directives describe."""
    top = section.address + section.size
    bounds = {section.address, top, *(label for label in labels if section.address < label < top)}
    bounds |= {bound for pair in written for bound in pair if section.address < bound < top}
    ordered = sorted(bounds)
    for start, end in pairwise(ordered):
        if not any(first <= start < last for first, last in written):
            yield start, end


def pieces(order: list[int], end: int, states: dict[int, State], bias: int) -> Iterator[Description]:
    """Yield the frames of instructions at addresses; of one kind each."""
    start = 0
    for index in range(1, len(order) + 1):
        if index == len(order) or states[order[index]].kind != states[order[start]].kind:
            stop = end if index == len(order) else order[index]
            yield piece(order[start:index], stop, states, bias)
            start = index


def piece(order: list[int], end: int, states: dict[int, State], bias: int) -> Description:
    """Return the frames of instructions of one kind."""
    kind = states[order[0]].kind
    first = row_of(entered("call") if kind == "call" else UNKNOWN if kind == "none" else entered(kind), bias)
    row, address, out = first, order[0], bytearray()
    for place in order:
        here = row_of(states[place], bias)
        code = changes(row, here, first)
        if code:
            out += rules.advanced(place - address) if place != address else b""
            out += code
            row, address = here, place
    return Description(Common(initial_instructions(first), kind == "interrupt"), order[0], end, bytes(out))


def initial_instructions(row: Row) -> bytes:
    """Return the instructions of a CIE whose routines begin with a row."""
    return rules.cfa_is(*row.cfa) + b"".join(row.rules[register] for register in sorted(row.rules))
