"""Answers about code that take a library which is slow to import, remembered from one process to the next.

An answer follows from the question alone, so it is the same in every process that asks the same library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from callgate.kernel.common.checked_files import read_checked, write_checked

MOST: Final = 2048  # answers that are remembered: a shell session asks for a few hundred


class Remembered:
    """Questions, each the name of a function, code and a number, and their answers: lists of numbers and strings."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.more = False  # than have been read

    def ask(self, name: str, code: bytes, number: int, find: Callable[[], Any]) -> Any:
        """Return the answer, which is found if it is not known."""
        question = f"{name} {number} {hashlib.sha256(code).hexdigest()}"
        if question in self.answers:
            return self.answers[question]
        answer = find()
        if len(self.answers) < MOST:
            self.answers[question] = answer
            self.more = True
        return answer

    def read(self, path: Path) -> None:
        """Add the answers of a file that an earlier process has written; a damaged one, or none, has none."""
        try:
            content = read_checked(path)
        except OSError:
            return
        if content is not None:
            self.answers |= json.loads(content)

    def write(self, path: Path) -> None:
        """Write the answers if there are more than have been read."""
        if self.more:
            write_checked(path, json.dumps(self.answers).encode())
            self.more = False


def fingerprint(package: str, sources: list[Path]) -> str | None:
    """Return a digest of what answers follow from: a package that is not imported for it, and sources that ask it.

    None if the package is not installed, or brings no library of its own.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    libraries = sorted((Path(spec.origin).parent / "lib").glob("*.so*"))
    if not libraries:
        return None
    state = hashlib.sha256()
    for source in [Path(spec.origin), *sorted(sources)]:
        state.update(source.read_bytes())
    for library in libraries:
        found = library.stat()
        state.update(f"{library} {found.st_mtime_ns} {found.st_size}".encode("utf-8", "surrogateescape"))
    return state.hexdigest()[:32]
