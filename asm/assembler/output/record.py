"""A `Unit` as plain data, for the note in an ELF file and for the cache."""

from dataclasses import astuple
from typing import Any, TypeVar

from callgate.asm.assembler.output.unit import (
    EventSite,
    FrameSite,
    LedgerMark,
    Section,
    SourceLine,
    Symbol,
    Unit,
    Variable,
)

Kind = TypeVar("Kind", bound=Unit)


def describe(program: Unit) -> dict[str, Any]:
    """Return everything but the sections' bytes, as JSON can hold it.

    File names are in one list to which lines refer: they are most of the data.
    """
    symbols = list(program.symbols.values())
    names = dict.fromkeys([line.file for line in program.lines] + [symbol.file for symbol in symbols])
    numbers = {name: number for number, name in enumerate(names)}
    return {
        "entry": program.entry,
        "files": list(numbers),
        "sections": [[s.name, s.address, s.load, s.size, s.writable, s.executable] for s in program.sections],
        "symbols": [[s.name, s.address, s.section, numbers[s.file], s.line, s.size, s.kind] for s in symbols],
        "lines": [[n.address, n.size, numbers[n.file], n.line, n.text] for n in program.lines],
        "events": [astuple(event) for event in program.events],
        "marks": [astuple(mark) for mark in program.marks],
        "sources": program.sources,
        "variables": [astuple(variable) for variable in program.variables],
        "structures": program.structures,
        "frames": [astuple(site) for site in program.frame_sites],
    }


def restore(kind: type[Kind], data: dict[str, Any], contents: dict[str, bytes]) -> Kind:
    """Return the unit that `describe` described; KeyError, TypeError or ValueError if the data is not sound."""
    files = data["files"]
    return kind(
        data["entry"],
        [
            Section(name, address, load, contents.get(name, b""), size, writable, executable)
            for name, address, load, size, writable, executable in data["sections"]
        ],
        {
            name: Symbol(name, address, section, files[file], line, size, kind)
            for name, address, section, file, line, size, kind in data["symbols"]
        },
        [SourceLine(address, size, files[file], line, text) for address, size, file, line, text in data["lines"]],
        [EventSite(address, name, tuple((k, v) for k, v in fields)) for address, name, fields in data["events"]],
        [LedgerMark(*mark) for mark in data["marks"]],
        data["sources"],
        [FrameSite(address, word, tuple(operands), name) for address, word, operands, name in data["frames"]],
        [Variable(*variable) for variable in data["variables"]],
        dict(data["structures"]),
    )
