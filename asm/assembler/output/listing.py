"""Listings and symbol files, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.asm.assembler.output.unit import Section, Unit

BYTES_SHOWN = 10


def listing(program: Unit) -> str:
    """Return one line an instruction: address, bytes, file and line, source text; labels in between."""
    labels: dict[int, list[str]] = {}
    for symbol in program.symbols.values():
        if symbol.kind != "constant":
            labels.setdefault(symbol.address, []).append(symbol.name)
    rows: list[str] = []
    for line in program.lines:
        rows.extend(f"{name}:" for name in labels.get(line.address, ()))
        data = program.code_at(line.address, line.size).hex()
        if len(data) > 2 * BYTES_SHOWN:
            data = data[: 2 * BYTES_SHOWN - 2] + ".."
        place = f"{line.file.rsplit('/', 1)[-1]}:{line.line}"
        rows.append(f"{line.address:08x}  {data:<{2 * BYTES_SHOWN}}  {place:<22} {line.text.strip()}")
    return "".join(f"{row}\n" for row in rows)


def kind_of(section: Section) -> str:
    """Return nm's letter: text, read-only data, data, bss."""
    if section.executable:
        return "t"
    if not section.writable:
        return "r"
    return "d" if section.data else "b"


def symbol_file(program: Unit) -> str:
    """Return `address type name`, sorted by address: T, R, D, B for labels, small letters for local ones, a."""
    kinds = {section.name: kind_of(section) for section in program.sections}
    rows = []
    for symbol in program.symbols.values():
        letter = kinds.get(symbol.section, "a")
        letter = letter.upper() if symbol.kind == "label" else letter
        rows.append((symbol.address & 0xFFFF_FFFF, symbol.name, letter))
    return "".join(f"{address:08x} {letter} {name}\n" for address, name, letter in sorted(rows))
