"""From sources to a program: read, expand, lay out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from callgate.asm.assembler.encoding.layout import Layout, Placement
from callgate.asm.assembler.language.errors import AsmError, AsmErrors, ErrorList
from callgate.asm.assembler.language.names import Names
from callgate.asm.assembler.language.preprocess import Preprocessor
from callgate.asm.assembler.language.source import Line, Sources
from callgate.asm.assembler.language.statements import Reader
from callgate.asm.assembler.output.program import Program
from callgate.asm.assembler.output.result import make_program


def build(
    inputs: Sequence[Path | tuple[str, str]],
    placement: Placement,
    entry: str | None,
    include_dirs: Sequence[Path],
    predefined: Mapping[str, int],
) -> tuple[Program, Sources]:
    """Assemble files and (name, text) pairs as one unit; AsmErrors, OSError for the files themselves.

    The files and names that it was made of are returned with the program, for a cache.
    """
    sources = Sources(include_dirs)
    errors = ErrorList()
    try:
        program = assemble_unit(inputs, placement, entry, predefined, sources, errors)
    except AsmError as error:
        if error not in errors.errors:
            errors.errors.append(error)
        raise AsmErrors(errors.ordered()) from None
    except AsmErrors:
        raise AsmErrors(errors.ordered()) from None
    program.sources = list(sources.digests)
    return program, sources


def assemble_unit(
    inputs: Sequence[Path | tuple[str, str]],
    placement: Placement,
    entry: str | None,
    predefined: Mapping[str, int],
    sources: Sources,
    errors: ErrorList,
) -> Program:
    """Do the work of `build`; AsmError for an error after which it is pointless to continue."""
    preprocessor = Preprocessor(sources, predefined, errors)
    lines: list[Line] = []
    for item in inputs:
        lines += preprocessor.file(item) if isinstance(item, Path) else preprocessor.text(item[1], item[0])
    errors.check()
    names = Names({**predefined, **preprocessor.structures})
    reader = Reader(names, errors, preprocessor.macros)
    reader.read(lines)
    layout = Layout(reader.chunks, names, sources, errors)
    layout.settle(placement)
    program = make_program(reader, layout, placement, entry)
    program.structures = dict(preprocessor.structures)
    return program
