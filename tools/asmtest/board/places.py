"""Names of files as reports show them: relative to the project's folder, wherever that is on this computer."""

from __future__ import annotations

from pathlib import Path

from callgate.asm.assembler import AsmError, AsmErrors
from callgate.asm.assembler.language.source import shown


def shown_file(file: str, root: Path | None) -> str:
    """Return a file's name relative to the project's folder, or to callgate's own; unchanged if it lies elsewhere."""
    path = Path(file)
    if root is not None and path.is_relative_to(root):
        return str(path.relative_to(root))
    return shown(path)


def shown_errors(errors: AsmErrors, root: Path | None) -> AsmErrors:
    """Return errors with places named in this way."""
    return AsmErrors([shown_error(error, root) for error in errors.errors])


def shown_error(error: AsmError, root: Path | None) -> AsmError:
    """Return one error whose place, and chain of includes, are named in this way."""
    chain = tuple(link.replace(f"{root}/", "") if root is not None else link for link in error.place.chain)
    place = error.place._replace(file=shown_file(error.place.file, root), chain=chain)
    return AsmError(place, error.message, error.hint)
