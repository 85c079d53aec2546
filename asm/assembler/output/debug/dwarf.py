"""DWARF 2 for assembly: line tables, a compilation unit a section of code, a subprogram a label, types, call frames.

Enough for gdb to show the source, set breakpoints by line, and step over lines (DWARF 2.0.0, 6.2 and 7).  A
unit is one contiguous range of addresses, so each executable section has its own.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.asm.assembler.output.debug.debug_frame import frame_section
from callgate.asm.assembler.output.debug.debug_types import ABBREVIATIONS as TYPE_ABBREVIATIONS
from callgate.asm.assembler.output.debug.debug_types import Types, type_unit
from callgate.asm.assembler.output.debug.leb128 import sleb, text, uleb

if TYPE_CHECKING:
    from callgate.asm.assembler.output.unit import Section, SourceLine, Symbol, Unit

DW_TAG_COMPILE_UNIT, DW_TAG_SUBPROGRAM = 0x11, 0x2E
DW_AT_NAME, DW_AT_STMT_LIST, DW_AT_LOW_PC, DW_AT_HIGH_PC = 0x03, 0x10, 0x11, 0x12
DW_AT_LANGUAGE, DW_AT_COMP_DIR, DW_AT_PRODUCER, DW_AT_EXTERNAL = 0x13, 0x1B, 0x25, 0x3F
DW_FORM_ADDR, DW_FORM_DATA2, DW_FORM_DATA4, DW_FORM_STRING, DW_FORM_FLAG = 0x01, 0x05, 0x06, 0x08, 0x0C
DW_LANG_MIPS_ASSEMBLER = 0x8001
DW_LNS_COPY, DW_LNS_ADVANCE_PC, DW_LNS_ADVANCE_LINE, DW_LNS_SET_FILE = 1, 2, 3, 4
DW_LNE_END_SEQUENCE, DW_LNE_SET_ADDRESS = 1, 2
OPCODE_LENGTHS = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1])  # operands of standard opcodes 1 to 9

ABBREVIATIONS = bytes(
    [
        *(1, DW_TAG_COMPILE_UNIT, 1),
        *(DW_AT_NAME, DW_FORM_STRING, DW_AT_COMP_DIR, DW_FORM_STRING, DW_AT_PRODUCER, DW_FORM_STRING),
        *(DW_AT_LANGUAGE, DW_FORM_DATA2, DW_AT_LOW_PC, DW_FORM_ADDR, DW_AT_HIGH_PC, DW_FORM_ADDR),
        *(DW_AT_STMT_LIST, DW_FORM_DATA4, 0, 0),
        *(2, DW_TAG_SUBPROGRAM, 0),
        *(DW_AT_NAME, DW_FORM_STRING, DW_AT_LOW_PC, DW_FORM_ADDR, DW_AT_HIGH_PC, DW_FORM_ADDR),
        *(DW_AT_EXTERNAL, DW_FORM_FLAG, 0, 0),
        *TYPE_ABBREVIATIONS,
        0,
    ]
)


@dataclass(frozen=True)
class Debugging:
    """What a file with debug information says beyond what its sources do.

    `types` are those of its variables, and whatever else a person may want to see.  Names of sources below the folder
    `root` are relative to it, and `directory` is said to be that folder: on another computer it need not be the same
    (gdb: set substitute-path).  Without a root they are absolute.
    """

    types: Types = field(default_factory=Types)
    root: str = ""
    directory: str = ""

    def name(self, file: str) -> str:
        """Return a file's name for debuggers; what is not a file stays as it is."""
        if file.startswith("<"):
            return file
        path = os.path.normpath(Path(file).absolute())
        for root in (self.root, os.path.realpath(self.root)) if self.root else ():
            if path.startswith(f"{root}/"):
                return path.removeprefix(f"{root}/")
        return path

    def folder(self, name: str) -> str:
        """Return the folder to which a file's name is relative."""
        return str(Path(name).parent) if name.startswith(("/", "<")) else self.directory


def debug_sections(program: Unit, debugging: Debugging) -> list[tuple[str, bytes]]:
    """Return the debug sections, none for a unit without instructions."""
    information, table, ranges = b"", b"", b""
    for section, lines in units(program):
        ranges += address_range(section, len(information))
        information += info(program, section, lines, len(table), debugging)
        table += line_table(lines, debugging)
    if not table:
        return []
    return [
        (".debug_abbrev", ABBREVIATIONS),
        (".debug_info", information + type_unit(debugging.types, program)),
        (".debug_line", table),
        (".debug_aranges", ranges),
        (".debug_frame", frame_section(program)),
    ]


def address_range(section: Section, offset: int) -> bytes:
    """Return one set of .debug_aranges (DWARF 2.0.0, 6.1.2): the addresses of the unit at `offset`."""
    body = struct.pack("<HIBB4x4I", 2, offset, 4, 0, section.address, section.size, 0, 0)
    return struct.pack("<I", len(body)) + body


def units(program: Unit) -> list[tuple[Section, list[SourceLine]]]:
    """Return the sections that hold instructions, with their lines."""
    grouped = groupby(program.lines, key=lambda line: program.section_at(line.address))
    return [(section, list(lines)) for section, lines in grouped if section is not None]


def info(program: Unit, section: Section, lines: list[SourceLine], offset: int, debugging: Debugging) -> bytes:
    """Return one unit of .debug_info: a subprogram for every global label of an executable section."""
    low, high = section.address, section.address + section.size
    name = debugging.name(program.sources[0] if program.sources else lines[0].file)
    body = b"\1" + text(name) + text(debugging.folder(name)) + text("callgate asm")
    body += struct.pack("<HIII", DW_LANG_MIPS_ASSEMBLER, low, high, offset)
    for symbol in functions(program, section):
        body += b"\2" + text(symbol.name) + struct.pack("<IIB", symbol.address, symbol.address + symbol.size, 1)
    body += b"\0"
    return struct.pack("<IHIB", len(body) + 7, 2, 0, 4) + body


def functions(program: Unit, section: Section) -> list[Symbol]:
    """Return the global labels of a section of code that something follows."""
    return [s for s in program.symbols.values() if s.section == section.name and s.kind == "label" and s.size]


def line_table(lines: list[SourceLine], debugging: Debugging) -> bytes:
    """Return a line-number program: a row an instruction, one sequence a stretch of memory."""
    files = list(dict.fromkeys(line.file for line in lines))
    tables = b"\0" + b"".join(text(debugging.name(file)) + b"\0\0\0" for file in files) + b"\0"
    prologue = struct.pack("<BBbBB", 1, 1, -5, 14, len(OPCODE_LENGTHS) + 1) + OPCODE_LENGTHS + tables
    numbers = {file: number for number, file in enumerate(files, 1)}
    rows = b"".join(sequence(stretch, numbers) for stretch in stretches(lines))
    body = struct.pack("<HI", 2, len(prologue)) + prologue + rows
    return struct.pack("<I", len(body)) + body


def stretches(lines: list[SourceLine]) -> list[list[SourceLine]]:
    """Cut lines where the addresses leave a gap larger than padding."""
    result: list[list[SourceLine]] = []
    for line in sorted(lines, key=lambda item: item.address):
        if result and 0 <= line.address - (result[-1][-1].address + result[-1][-1].size) < 16:
            result[-1].append(line)
        else:
            result.append([line])
    return result


def sequence(lines: list[SourceLine], files: dict[str, int]) -> bytes:
    """Return the line program of one stretch."""
    out = bytearray(b"\0\5" + bytes([DW_LNE_SET_ADDRESS]) + struct.pack("<I", lines[0].address))
    address, number, file = lines[0].address, 1, 1
    for line in lines:
        index = files[line.file]
        if index != file:
            out += bytes([DW_LNS_SET_FILE]) + uleb(index)
            file = index
        if line.address != address:
            out += bytes([DW_LNS_ADVANCE_PC]) + uleb(line.address - address)
            address = line.address
        if line.line != number:
            out += bytes([DW_LNS_ADVANCE_LINE]) + sleb(line.line - number)
            number = line.line
        out.append(DW_LNS_COPY)
    out += bytes([DW_LNS_ADVANCE_PC]) + uleb(lines[-1].size) + b"\0\1" + bytes([DW_LNE_END_SEQUENCE])
    return bytes(out)
