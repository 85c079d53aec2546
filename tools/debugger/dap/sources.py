"""Our assembly for an editor: files on disk by their path, others by a number; lines with instructions."""

from __future__ import annotations

from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.tools.debugger.dap.protocol import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.asm.assembler import SourceLine
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.dap.protocol import Arguments
    from callgate.tools.debugger.workbench.workbench import Workbench


class Sources:
    """The sources of the programs that run."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.numbers: dict[str, int] = {}  # of files that are not on disk

    def described(self, line: SourceLine) -> dict[str, Any]:
        """Return a line's file as DAP describes it."""
        path = file_of(line)
        name = Path(path).name
        if Path(path).is_file():
            return {"name": name, "path": path}
        return {"name": name, "sourceReference": self.numbers.setdefault(path, len(self.numbers) + 1)}

    def all(self) -> list[dict[str, Any]]:
        """Return the files of the programs that run."""
        found: dict[str, SourceLine] = {}
        for process in self.bench.debuggee.threads.processes():
            for image in self.bench.debuggee.world.images(process):
                for line in image.lines:
                    found.setdefault(file_of(line), line)
        return [self.described(found[file]) for file in sorted(found)]

    def named(self, source: Arguments) -> str:
        """Return the file that a request names; RequestError."""
        number = source.number("sourceReference", 0)
        if number:
            return next((file for file, known in self.numbers.items() if known == number), "")
        path = source.text("path", "")
        if not path:
            raise RequestError("name a source by its path, or by a number of a stack frame")
        return normpath(path)

    def text(self, number: int) -> str:
        """Return a file that is not on disk: its lines that have instructions; RequestError."""
        file = next((file for file, known in self.numbers.items() if known == number), None)
        if file is None:
            raise RequestError(f"there is no source {number}")
        lines = {line.line: line.text.rstrip() for line, _ in self.lines(file)}
        return "\n".join(lines.get(number, "") for number in range(1, max(lines, default=0) + 1)) + "\n"

    def lines(self, file: str) -> Iterator[tuple[SourceLine, Process]]:
        """Yield the lines of a file in the programs that run, each with its process."""
        for process in self.bench.debuggee.threads.processes():
            for image in self.bench.debuggee.world.images(process):
                for line in image.lines:
                    if file_of(line) == file:
                        yield line, process

    def place(self, file: str, number: int) -> tuple[SourceLine, Process] | None:
        """Return the first instruction at a line or after it; None if there is none."""
        after = [(line, process) for line, process in self.lines(file) if line.line >= number]
        return min(after, key=lambda found: (found[0].line, found[0].address), default=None)


def file_of(line: SourceLine) -> str:
    """Return a line's file as editors name it: a test's file, which is relative to its project's folder, whole."""
    path = Path(normpath(line.file))
    return str(path.absolute() if path.is_file() else path)
