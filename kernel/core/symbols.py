"""Names for addresses of a program, from the symbol table of its ELF file (System V gABI chapter 4, "Symbol Table").

Of a program's file only the tables are kept, and once for all processes that were loaded from the same ones.  They are
searched when a fault is reported.  Programs come from disks, so tables may be anything: one that is too large, or
damaged, gives no names, and a name that is too long is cut.  Read here, not by pyelftools, which would make an object
of every symbol and be imported while a fault is handled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from callgate.kernel.common.record import record
from callgate.asm.assembler.output.elf_format import (
    HEADER,
    SECTION_HEADER,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    SYMBOL,
)
from callgate.kernel.abi.limits import SYMBOL_NAME_BYTES, SYMBOL_NAMES_BYTES, SYMBOLS

SECTIONS: Final = 256  # most sections of a file that is read
NAMED = (STT_NOTYPE, STT_OBJECT, STT_FUNC)


@record(frozen=True)
class SymbolTable:
    """The parts of a program's file that a fault report needs: bounded by SYMBOLS, SYMBOL_NAMES_BYTES and SECTIONS."""

    sections: tuple[tuple[int, int], ...]  # (address, bytes) by section number
    symbols: bytes
    names: bytes


def share(image: bytes, known: Iterable[SymbolTable | None]) -> SymbolTable | None:
    """Return the table of a program's file, the one already known if it is the same."""
    table = table_of(image)
    return next((other for other in known if other == table), table)


def table_of(image: bytes) -> SymbolTable | None:
    """Return the symbol table of an ELF32 file; None if it has none, or one that is too large or damaged."""
    if len(image) < HEADER.size:
        return None
    *_, offset, _, _, _, _, size, count, _ = HEADER.unpack_from(image)
    if size != SECTION_HEADER.size or not 0 < count <= SECTIONS or offset + count * size > len(image):
        return None
    headers = [SECTION_HEADER.unpack_from(image, offset + index * size) for index in range(count)]
    table = next((header for header in headers if header[1] == SHT_SYMTAB), None)
    if table is None or table[6] >= count or headers[table[6]][1] != SHT_STRTAB:
        return None
    symbols, names = piece(image, table, SYMBOLS * SYMBOL.size), piece(image, headers[table[6]], SYMBOL_NAMES_BYTES)
    if not symbols or not names or len(symbols) % SYMBOL.size:
        return None
    return SymbolTable(tuple((header[3], header[5]) for header in headers), symbols, names)


def piece(image: bytes, header: tuple[int, ...], most: int) -> bytes:
    """Return the bytes of a section, none if it lies outside the file or has more than `most`."""
    offset, size = header[4], header[5]
    return image[offset : offset + size] if size <= most and offset + size <= len(image) else b""


def symbol_at(image: bytes, address: int) -> str:
    """Return ``name`` or ``name+0x12`` of the nearest symbol at or before a linear address; "" if there is none."""
    return symbol_of(table_of(image), address)


def symbol_of(table: SymbolTable | None, address: int) -> str:
    """Do what `symbol_at` does, with a table."""
    section = None if table is None else section_of(table, address)
    if table is None or section is None:
        return ""
    best, found = -1, b""
    for name, value, _, kind, _, where in SYMBOL.iter_unpack(table.symbols):
        if where == section and best < value <= address and kind & 15 in NAMED:
            text = name_of(table, name)
            if text:
                best, found = value, text
    if best < 0:
        return ""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in found.decode("utf-8", "replace"))
    return shown + (f"+{address - best:#x}" if address > best else "")


def name_of(table: SymbolTable, offset: int) -> bytes:
    """Return the name at an offset of the string table, its beginning if it is long; none outside the table."""
    return table.names[offset : offset + SYMBOL_NAME_BYTES].partition(b"\0")[0]


def section_of(table: SymbolTable, address: int) -> int | None:
    """Return the number of the section that an address lies in."""
    for number, (start, size) in enumerate(table.sections):
        if start and 0 <= address - start < size:
            return number
    return None
