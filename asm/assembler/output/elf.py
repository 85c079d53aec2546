"""ELF32 executables: program headers, sections, symbols, lines (System V gABI chapters 4 and 5).

Events, ledger marks and other data without a place in ELF are in a note section, so that a `Program` can be read back
whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callgate.asm.assembler.output.debug.dwarf import Debugging, debug_sections
from callgate.asm.assembler.output.elf_format import (
    EM_386,
    ET_EXEC,
    EV_CURRENT,
    HEADER,
    IDENT,
    NOTE_NAME,
    NOTE_OWNER,
    NOTE_TYPE,
    PAGE,
    PF_R,
    PF_W,
    PF_X,
    PROGRAM_HEADER,
    PT_LOAD,
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_ABS,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    SYMBOL,
)
from callgate.asm.assembler.output.record import describe

if TYPE_CHECKING:
    from callgate.asm.assembler.output.unit import Section, Unit


@dataclass(slots=True)
class Piece:
    """A section of the file."""

    name: str
    kind: int
    flags: int
    address: int
    data: bytes
    size: int
    align: int = 1
    link: int = 0
    info: int = 0
    entry: int = 0
    offset: int = 0


def write_elf(program: Unit, *, debug: bool | Debugging = True, labels: bool = False, whole: bool = True) -> bytes:
    """Return the program as an ELF32 file; without `debug`, only what a loader needs, and its `labels` if wanted.

    A file that is `whole` has the note from which a program is read back.
    """
    pieces = [Piece("", 0, 0, 0, b"", 0, 0)]
    pieces += [loadable(section) for section in program.sections]
    loads = pieces[1:]
    if debug:
        wanted = debug if isinstance(debug, Debugging) else Debugging()
        pieces += [Piece(name, SHT_PROGBITS, 0, 0, data, len(data)) for name, data in debug_sections(program, wanted)]
        if whole:
            data = note(program)
            pieces.append(Piece(NOTE_NAME, SHT_NOTE, 0, 0, data, len(data), 4))
        pieces += symbol_pieces(program, len(pieces))
    elif labels:
        pieces += symbol_pieces(program, len(pieces), kinds=("label",))
    names = b"\0" + b"".join(piece.name.encode() + b"\0" for piece in pieces[1:]) + b".shstrtab\0"
    pieces.append(Piece(".shstrtab", SHT_STRTAB, 0, 0, names, len(names)))
    body = bytearray(HEADER.size + PROGRAM_HEADER.size * len(loads))
    for piece in pieces[1:]:
        place(body, piece)
    headers = b"".join(program_header(piece, section) for piece, section in zip(loads, program.sections, strict=True))
    body += bytes(-len(body) % 4)
    table = b"".join(section_header(piece, names) for piece in pieces)
    header = HEADER.pack(
        *(IDENT, ET_EXEC, EM_386, EV_CURRENT, program.entry, HEADER.size if loads else 0, len(body), 0, HEADER.size),
        *(PROGRAM_HEADER.size, len(loads), SECTION_HEADER.size, len(pieces), len(pieces) - 1),
    )
    body[: HEADER.size] = header
    body[HEADER.size : HEADER.size + len(headers)] = headers
    return bytes(body) + table


def note(program: Unit) -> bytes:
    """Return the note (gABI, Note Section): owner `callgate`, type 1, compressed JSON."""
    text = json.dumps(describe(program), separators=(",", ":"), sort_keys=True).encode("ascii")
    packed = zlib.compress(text, 6)
    head = struct.pack("<III", len(NOTE_OWNER), len(packed), NOTE_TYPE)
    return head + NOTE_OWNER + bytes(-len(NOTE_OWNER) % 4) + packed + bytes(-len(packed) % 4)


def loadable(section: Section) -> Piece:
    """Return the file section of a program's section."""
    flags = SHF_ALLOC | (SHF_WRITE if section.writable else 0) | (SHF_EXECINSTR if section.executable else 0)
    kind = SHT_PROGBITS if section.data else SHT_NOBITS
    return Piece(section.name, kind, flags, section.address, section.data, section.size, 16)


def place(body: bytearray, piece: Piece) -> None:
    """Append a section's bytes; loadable ones at an offset congruent to their address."""
    if piece.flags & SHF_ALLOC:
        body += bytes((piece.address - len(body)) % PAGE)
    else:
        body += bytes(-len(body) % max(piece.align, 1))
    piece.offset = len(body)
    body += piece.data


def program_header(piece: Piece, section: Section) -> bytes:
    """Return the PT_LOAD entry of a section."""
    flags = PF_R | (PF_W if section.writable else 0) | (PF_X if section.executable else 0)
    return PROGRAM_HEADER.pack(
        PT_LOAD, piece.offset, section.address, section.load, len(section.data), section.size, flags, PAGE
    )


def section_header(piece: Piece, names: bytes) -> bytes:
    """Return the section-table entry."""
    name = names.index(b"\0" + piece.name.encode() + b"\0") + 1 if piece.name else 0
    return SECTION_HEADER.pack(
        *(name, piece.kind, piece.flags, piece.address, piece.offset, piece.size),
        *(piece.link, piece.info, piece.align, piece.entry),
    )


def symbol_pieces(program: Unit, index: int, kinds: Container[str] | None = None) -> list[Piece]:
    """Return .symtab and .strtab; the first one is section number `index`."""
    symbols, strings, first_global = symbol_table(program, kinds)
    return [
        Piece(".symtab", SHT_SYMTAB, 0, 0, symbols, len(symbols), 4, index + 1, first_global, SYMBOL.size),
        Piece(".strtab", SHT_STRTAB, 0, 0, strings, len(strings)),
    ]


def symbol_table(program: Unit, kinds: Container[str] | None) -> tuple[bytes, bytes, int]:
    """Return symbol table, string table and the index of the first global symbol; of some `kinds` or of all.

    Labels of code are functions that reach to the next label; local labels have no type, so that a
    debugger shows where one is as function+offset; constants are absolute.
    """
    numbers = {section.name: index for index, section in enumerate(program.sections, 1)}
    functions = {section.name for section in program.sections if section.executable}
    symbols = [s for s in program.symbols.values() if "(" not in s.name and -(1 << 31) <= s.address < 1 << 32]
    if kinds is not None:
        symbols = [symbol for symbol in symbols if symbol.kind in kinds]
    symbols.sort(key=lambda s: (s.kind == "label", s.kind == "constant", s.address, s.name))
    strings = bytearray(b"\0")
    table = bytearray(SYMBOL.size)
    for symbol in symbols:
        kind, bind = STT_NOTYPE, STB_LOCAL
        if symbol.kind == "label":
            kind, bind = STT_FUNC if symbol.section in functions else STT_OBJECT, STB_GLOBAL
        index = numbers.get(symbol.section, SHN_ABS)
        address = symbol.address & 0xFFFF_FFFF
        table += SYMBOL.pack(len(strings), address, symbol.size, bind << 4 | kind, 0, index)
        strings += symbol.name.encode() + b"\0"
    return bytes(table), bytes(strings), 1 + sum(symbol.kind != "label" for symbol in symbols)
