"""Assembled sources of a test run, each assembled once, with the structures that they declare."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from callgate.asm.assembler import Program, assemble, assemble_text
from callgate.asm.assembler.language.errors import ErrorList
from callgate.asm.assembler.language.preprocess import Preprocessor
from callgate.asm.assembler.language.source import Sources, decode
from callgate.kernel.abi import constants
from callgate.kernel.common.near_miss import did_you_mean
from callgate.tools.asmtest.board.board import ORIGIN
from callgate.tools.asmtest.board.structures import StructureError, StructureType, declared_structures, known_structures

SHIPPED = ("callgate.asm.include", "callgate.asm.kernel", "callgate.asm.user")
SETTLED: Final = 2_000_000_000  # ns: a file last changed so long before it was read has another time if changed since


def shipped_folders() -> list[Path]:
    """Return the folders of the sources that come with callgate, for `.include`; no two files in them have one name."""
    roots = [Path(str(files(package))) for package in SHIPPED]
    return [folder for root in roots for folder in (root, *sorted(root.rglob("*/"))) if folder.name != "__pycache__"]


class Stamp(NamedTuple):
    """The data that show whether a file has changed; `digest` is needed if the times are too close."""

    modified: int
    size: int
    digest: bytes | None


class Files:
    """The files that a program was made of, as they were then, and those that were looked for in vain."""

    def __init__(self, found: Iterable[str], missing: Iterable[str]) -> None:
        """Note the state of the files now, just after they have been read."""
        self.stamps = {name: self._stamp(name) for name in sorted(found)}
        self.missing = sorted(missing)

    def _stamp(self, name: str) -> Stamp:
        state = Path(name).stat()
        settled = time.time_ns() - state.st_mtime_ns > SETTLED
        return Stamp(state.st_mtime_ns, state.st_size, None if settled else digest(name))

    def unchanged(self) -> bool:
        """Whether every file is unchanged, and none has appeared where one was looked for."""
        try:
            for name, (modified, size, content) in self.stamps.items():
                state = Path(name).stat()
                if (state.st_mtime_ns, state.st_size) != (modified, size):
                    return False
                if content is not None and digest(name) != content:
                    return False
        except OSError:
            return False
        return not any(Path(name).exists() for name in self.missing)


def digest(name: str) -> bytes:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(name).read_bytes()).digest()


class Programs:
    """Assembles programs and keeps them."""

    def __init__(self, include: Sequence[Path] = ()) -> None:
        """`include` are searched by `.include` after the file's own folder and before the shipped sources."""
        self.include = [*include, *shipped_folders()]
        self.programs: dict[object, tuple[Program, Files]] = {}
        self.structures: dict[int, dict[str, StructureType]] = {}

    def get(self, sources: Sequence[str | Path], folder: Path) -> Program:
        """Return the program of text (a string with a line end) or of files; AsmErrors, OSError."""
        if not sources or not all(isinstance(item, str | Path) for item in sources):
            raise ValueError("load names of files, or one text with a line end")
        first = sources[0]
        if isinstance(first, str) and "\n" in first:
            if len(sources) > 1:
                raise ValueError("load one text, or several files")
            return self._text_in(first, folder)
        paths = tuple(folder / item for item in sources)
        known = self.known(paths)
        if known is None:
            known = assemble(paths, origin=ORIGIN, include_dirs=self.include)
            self.keep(paths, known, [(str(path), decode(path.read_bytes())) for path in paths])
        return known

    def _text_in(self, text: str, folder: Path) -> Program:
        """Return the program of a text that stands for a file of a folder; to make its path takes longer than this."""
        key = (folder, text)
        known = self.known(key)
        if known is None:
            path = folder / "<text>"
            known = self.text(text, path)
            self.programs[key] = self.programs[path, text]
        return known

    def text(self, text: str, path: Path) -> Program:
        """Return the program of a text that stands for the file `path`."""
        key = (path, text)
        known = self.known(key)
        if known is None:
            folders = [path.parent, *self.include]
            known = assemble_text(text, name=str(path), origin=ORIGIN, include_dirs=folders)
            self.keep(key, known, [(str(path), text)])
        return known

    def defined(self, text: str, path: Path) -> set[str]:
        """Return the constants that a text defines when it is preprocessed."""
        return set(self._preprocess([(str(path), text)]).constants)

    def known(self, key: object) -> Program | None:
        """Return the program that was made before, if its files are still the same."""
        program, made_of = self.programs.get(key, (None, None))
        return program if made_of is None or made_of.unchanged() else None

    def _preprocess(self, texts: list[tuple[str, str]]) -> Preprocessor:
        folders = [*{Path(name).parent: None for name, _ in texts}, *self.include]
        preprocessor = Preprocessor(Sources(folders), constants(), ErrorList())
        for name, text in texts:
            preprocessor.text(text, name)
        return preprocessor

    def keep(self, key: object, program: Program, texts: list[tuple[str, str]]) -> None:
        """Remember a program, the files that it was made of, and the structures that its texts declare."""
        preprocessor = self._preprocess(texts)
        self.programs[key] = program, Files(program.sources, preprocessor.files.missing)
        self.structures[id(program)] = known_structures() | declared_structures(preprocessor.structures)

    def structure(self, name: str, program: Program | None) -> StructureType:
        """Return a structure of the ABI or of a program; StructureError names the nearest one."""
        known = self.structures.get(id(program)) or known_structures()
        if name not in known:
            hint = did_you_mean(name, known) or "declare it with .struct"
            raise StructureError(f"there is no structure {name}; {hint}")
        return known[name]
