"""The assembler around Keystone: our own language, every instruction encoded alone and checked.

`assemble` takes files, `assemble_text` a string; both return a `Program` or raise `AsmErrors`.  The
language is described in docs/assembler.md.  Importing this package loads neither Keystone nor Capstone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.asm.assembler.language.errors import AsmError, AsmErrors
from callgate.asm.assembler.output.program import Program
from callgate.asm.assembler.output.unit import EventSite, LedgerMark, Section, SourceLine, Symbol

if TYPE_CHECKING:
    from callgate.asm.assembler.encoding.layout import SectionSpec
    from callgate.asm.assembler.language.source import Sources

__all__ = [
    "AsmError",
    "AsmErrors",
    "EventSite",
    "LedgerMark",
    "Program",
    "Section",
    "SourceLine",
    "Symbol",
    "assemble",
    "assemble_text",
    "assemble_with_sources",
]

DEFAULT_ORIGIN = 0x40_0000
PAGE = 4096


def assemble(
    path: Path | str | Sequence[Path | str],
    *,
    origin: int = DEFAULT_ORIGIN,
    load: int | None = None,
    align: int = PAGE,
    entry: str = "start",
    include_dirs: Sequence[Path | str] = (),
    defines: Mapping[str, int] | None = None,
    sections: "Mapping[str, SectionSpec | int] | None" = None,
    abi: bool = True,
) -> Program:
    """Assemble a source file, or several as one unit.

    `origin` is the linear address of the first section, `load` its load address (the same if None),
    `align` the alignment of sections in bytes.  `sections` gives single sections an address, or a
    `layout.SectionSpec` with a load address.  `entry` is the label to start at; without a label `start` it
    is the first instruction.  `defines` adds constants to those of the ABI, which `abi=False` leaves out.
    Raises AsmErrors, and OSError if a file itself cannot be read.
    """
    paths = [path] if isinstance(path, Path | str) else path
    inputs = [Path(item) for item in paths]
    return _build(inputs, origin, load, align, entry, include_dirs, defines, sections, abi)[0]


def assemble_text(
    text: str,
    *,
    name: str = "<text>",
    origin: int = DEFAULT_ORIGIN,
    load: int | None = None,
    align: int = 16,
    entry: str = "start",
    include_dirs: Sequence[Path | str] = (),
    defines: Mapping[str, int] | None = None,
    sections: "Mapping[str, SectionSpec | int] | None" = None,
    abi: bool = True,
) -> Program:
    """Assemble a string; `name` stands for it in errors and lines.  For the rest see `assemble`."""
    return _build([(name, text)], origin, load, align, entry, include_dirs, defines, sections, abi)[0]


def assemble_with_sources(
    paths: Sequence[Path],
    *,
    origin: int = DEFAULT_ORIGIN,
    load: int | None = None,
    align: int = PAGE,
    entry: str = "start",
    include_dirs: Sequence[Path | str] = (),
    defines: Mapping[str, int] | None = None,
    sections: "Mapping[str, SectionSpec | int] | None" = None,
    abi: bool = True,
) -> "tuple[Program, Sources]":
    """Do what `assemble` does; also return the files and names that the program was made of."""
    return _build(paths, origin, load, align, entry, include_dirs, defines, sections, abi)


def _build(
    inputs: "Sequence[Path | tuple[str, str]]",
    origin: int,
    load: int | None,
    align: int,
    entry: str,
    include_dirs: Sequence[Path | str],
    defines: Mapping[str, int] | None,
    sections: "Mapping[str, SectionSpec | int] | None",
    abi: bool,
) -> "tuple[Program, Sources]":
    from callgate.asm.assembler.assembly import build
    from callgate.asm.assembler.encoding.layout import Placement, section_spec

    specs = {name: section_spec(name, value) for name, value in (sections or {}).items()}
    placement = Placement(origin, origin if load is None else load, align, specs)
    folders = [Path(item) for item in include_dirs]
    return build(inputs, placement, entry, folders, predefined(defines, abi=abi))


def predefined(defines: Mapping[str, int] | None, *, abi: bool) -> dict[str, int]:
    """Return the constants that a unit begins with."""
    if not abi:
        return dict(defines or {})
    from callgate.kernel.abi import constants

    return {**constants(), **(defines or {})}
