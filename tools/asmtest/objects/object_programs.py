"""Programs of a test run that are made of object files, each linked once as long as its files stay the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from callgate.asm.assembler import Program, assemble, assemble_text
from callgate.asm.assembler.language.source import decode
from callgate.tools.asmtest.board.programs import Programs
from callgate.tools.asmtest.objects.linking import SOURCE_ORIGIN, External, LinkedProgram, Linker
from callgate.tools.asmtest.objects.relocatable import is_object, read_object

Place = tuple[Path, int | None]  # a file, and where plain bytes lie


class ObjectPrograms:
    """Links programs and keeps them."""

    def __init__(self, programs: Programs) -> None:
        """`programs` gives the folders of `.include` and keeps structures."""
        self.programs = programs

    def get(
        self, sources: Sequence[str | Path], folder: Path, at: int | None, external: Mapping[str, External]
    ) -> Program:
        """Return the program of object files, or, if there are none, of a text or sources.  Errors as of both."""
        names = [item for item in sources if isinstance(item, Path) or (isinstance(item, str) and "\n" not in item)]
        paths = [folder / name for name in names]
        if any(is_object(path, at=at) for path in paths):
            return self.files(paths, at, external)
        if external:
            raise ValueError("extern is for object files; a source defines its names itself")
        return self.programs.get(sources, folder)

    def files(self, paths: Sequence[Path], at: int | None, external: Mapping[str, External]) -> LinkedProgram:
        """Return the program of object files, and of sources beside them; ObjectError, AsmErrors, OSError."""
        objects = [(path, at) for path in paths if is_object(path, at=at)]
        sources = [path for path in paths if not is_object(path, at=at)]
        if at is not None and len(paths) > 1:
            raise ValueError("`at` is the address of one file: load it alone")
        texts = [(str(path), decode(path.read_bytes())) for path in sources]

        def source(defines: Mapping[str, int]) -> Program:
            if not sources:
                return Program(0, [], {})
            include = self.programs.include
            return assemble(sources, origin=SOURCE_ORIGIN, align=16, include_dirs=include, defines=defines)

        return self._get(objects, texts, external, source)

    def text(self, text: str, path: Path, objects: Sequence[Place], external: Mapping[str, External]) -> LinkedProgram:
        """Return the program of objects and a text that stands for the file `path`."""

        def source(defines: Mapping[str, int]) -> Program:
            folders = [path.parent, *self.programs.include]
            return assemble_text(text, name=str(path), origin=SOURCE_ORIGIN, include_dirs=folders, defines=defines)

        return self._get(objects, [(str(path), text)], external, source)

    def _get(
        self,
        objects: Sequence[Place],
        texts: list[tuple[str, str]],
        external: Mapping[str, External],
        source: Callable[[Mapping[str, int]], Program],
    ) -> LinkedProgram:
        key = (
            tuple(objects),
            tuple(texts),
            tuple((name, value if isinstance(value, int | str) else None) for name, value in sorted(external.items())),
        )
        known = self.programs.known(key)
        if not isinstance(known, LinkedProgram):
            linker = Linker([read_object(path, at) for path, at in objects])
            own = source(linker.definitions())
            known = linker.link(own, external)
            self.programs.keep(key, known, texts)
        return known
