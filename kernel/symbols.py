"""Names for addresses of a program, from the symbol table of its ELF file (System V gABI chapter 4, "Symbol Table").

Programs come from disks, so their tables may be anything: whatever is wrong with one, its program has no names.
"""

from __future__ import annotations

from io import BytesIO

NAMED = ("STT_NOTYPE", "STT_OBJECT", "STT_FUNC")
SYMBOLS_LIMIT = 100_000
NAME_LIMIT = 256


def symbol_at(image: bytes, address: int) -> str:
    """Return ``name`` or ``name+0x12`` of the nearest symbol at or before a linear address; "" if there is none."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    try:
        file = ELFFile(BytesIO(image))
        table = file.get_section_by_name(".symtab")
        section = section_of(file, address)
        if not isinstance(table, SymbolTableSection) or section is None or table.num_symbols() > SYMBOLS_LIMIT:
            return ""
        best = (-1, "")
        for symbol in table.iter_symbols():
            value = symbol["st_value"]
            fits = symbol["st_shndx"] == section and symbol["st_info"]["type"] in NAMED
            if fits and best[0] < value <= address and symbol.name:
                best = (value, symbol.name)
    except (ELFError, LookupError, ValueError, ArithmeticError, AttributeError, TypeError, OSError):
        return ""  # what a reader of ELF files raises on a file that is none
    if best[0] < 0:
        return ""
    name = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in best[1])
    return name[:NAME_LIMIT] + (f"+{address - best[0]:#x}" if address > best[0] else "")


def section_of(file: object, address: int) -> int | None:
    """Return the number of the section that an address lies in."""
    for number, section in enumerate(file.iter_sections()):  # type: ignore[attr-defined]  # an ELFFile, untyped here
        if section["sh_addr"] and 0 <= address - section["sh_addr"] < section["sh_size"]:
            return number
    return None
