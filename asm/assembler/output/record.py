"""A `Unit` as plain data, for the note in an ELF file and for the cache."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from callgate.asm.assembler.output.later import Later
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
FOR_DEBUGGERS: Final = ("lines", "frames")
"""What only a debugger, a listing and a report of a fault look at: most of the data."""


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
        "events": [list(event) for event in program.events],
        "marks": [list(mark) for mark in program.marks],
        "sources": program.sources,
        "variables": [[v.address, v.name, v.type, v.count] for v in program.variables],
        "structures": program.structures,
        "frames": [list(site) for site in program.frame_sites],
    }


def restore(
    kind: type[Kind],
    data: dict[str, Any],
    contents: dict[str, bytes],
    later: Callable[[], dict[str, Any]] | None = None,
) -> Kind:
    """Return the unit that `describe` described; KeyError, TypeError or ValueError if the data is not sound.

    What is FOR_DEBUGGERS comes out of `later()`, if it is given, when it is first looked at.
    """
    files = data["files"]
    unit = kind(
        data["entry"],
        [
            Section(name, address, load, contents.get(name, b""), size, writable, executable)
            for name, address, load, size, writable, executable in data["sections"]
        ],
        {
            name: Symbol(name, address, section, files[file], line, size, kind)
            for name, address, section, file, line, size, kind in data["symbols"]
        },
        events=[EventSite(address, name, tuple((k, v) for k, v in fields)) for address, name, fields in data["events"]],
        marks=[LedgerMark(*mark) for mark in data["marks"]],
        sources=data["sources"],
        variables=[Variable(*variable) for variable in data["variables"]],
        structures=dict(data["structures"]),
    )
    if later is None:
        unit.lines, unit.frame_sites = restore_lines(data, files), restore_frames(data)
    else:
        unit.lines = Later(lambda: restore_lines(later(), files))
        unit.frame_sites = Later(lambda: restore_frames(later()))
    return unit


def restore_lines(data: dict[str, Any], files: list[str]) -> list[SourceLine]:
    """Return the lines of a description, whose files have numbers."""
    return [SourceLine(address, size, files[file], line, text) for address, size, file, line, text in data["lines"]]


def restore_frames(data: dict[str, Any]) -> list[FrameSite]:
    """Return the directives about call frames of a description."""
    return [FrameSite(address, word, tuple(operands), name) for address, word, operands, name in data["frames"]]
