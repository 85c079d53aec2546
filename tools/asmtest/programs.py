"""Assembled sources of a test run, each assembled once, with the structures that they declare."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from callgate.asm.assembler import Program, assemble, assemble_text
from callgate.asm.assembler.errors import ErrorList, near_miss
from callgate.asm.assembler.preprocess import Preprocessor
from callgate.asm.assembler.source import Sources
from callgate.kernel.abi import constants
from callgate.tools.asmtest.board import ORIGIN
from callgate.tools.asmtest.structures import StructureError, StructureType, declared_structures, known_structures

SHIPPED = ("callgate.asm.include", "callgate.asm.kernel", "callgate.asm.user")


def shipped_folders() -> list[Path]:
    """Return the folders of the sources that come with callgate, for `.include`."""
    return [Path(str(files(package))) for package in SHIPPED]


class Programs:
    """Assembles, and remembers what it assembled."""

    def __init__(self, include: Sequence[Path] = ()) -> None:
        """`include` are searched by `.include` after the file's own folder and before the shipped sources."""
        self.include = [*include, *shipped_folders()]
        self.programs: dict[object, Program] = {}
        self.structures: dict[int, dict[str, StructureType]] = {}

    def get(self, sources: Sequence[str | Path], folder: Path) -> Program:
        """Return the program of text (a string with a line end) or of files; AsmErrors, OSError."""
        first = sources[0]
        if isinstance(first, str) and "\n" in first:
            if len(sources) > 1:
                raise ValueError("load one text, or several files")
            known = self.programs.get((folder, first))
            if known is None:
                known = self.programs[folder, first] = self.text(first, folder / "<text>")
            return known
        paths = [folder / item for item in sources]
        key = tuple((path.resolve(), path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
        if key not in self.programs:
            program = assemble(paths, origin=ORIGIN, include_dirs=self.include)
            self._keep(key, program, [(str(path), path.read_text()) for path in paths])
        return self.programs[key]

    def text(self, text: str, path: Path) -> Program:
        """Return the program of a text that stands for the file `path`."""
        key = (path, text)
        if key not in self.programs:
            folders = [path.parent, *self.include]
            program = assemble_text(text, name=str(path), origin=ORIGIN, include_dirs=folders)
            self._keep(key, program, [(str(path), text)])
        return self.programs[key]

    def _keep(self, key: object, program: Program, texts: list[tuple[str, str]]) -> None:
        folders = [*{Path(name).parent: None for name, _ in texts}, *self.include]
        preprocessor = Preprocessor(Sources(folders), constants(), ErrorList())
        for name, text in texts:
            preprocessor.text(text, name)
        self.programs[key] = program
        self.structures[id(program)] = known_structures() | declared_structures(preprocessor.structures)

    def structure(self, name: str, program: Program | None) -> StructureType:
        """Return a structure of the ABI or of a program; StructureError names the nearest one."""
        known = self.structures.get(id(program)) or known_structures()
        if name not in known:
            hint = near_miss(name, known) or "declare it with .struct"
            raise StructureError(f"there is no structure {name}; {hint}")
        return known[name]
