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

MOST: Final = 2048  # answers that are remembered, in memory and in a file: a shell session asks for a few hundred


class Remembered:
    """Questions, each the name of a function, code and a number, and their answers: lists of numbers and strings.

    There are at most MOST of them, in memory and in a file: the one that was asked longest ago goes for a new one.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}  # since the file was read
        self.kept: frozenset[str] = frozenset()  # questions of the file when it was read
        self.unread: Path | None = None  # a file that is read when the first question is asked

    def ask(self, name: str, code: bytes, number: int, find: Callable[[], Any]) -> Any:
        """Return the answer, which is found if it is not known."""
        if self.unread is not None:
            self.read(self.unread)
        question = f"{name} {number} {hashlib.sha256(code).hexdigest()}"
        answer = self.answers[question] if question in self.answers else find()
        for answers in (self.answers, self.asked):
            answers.pop(question, None)
            answers[question] = answer
            if len(answers) > MOST:
                del answers[next(iter(answers))]
        return answer

    def read(self, path: Path) -> None:
        """Know what an earlier process has written into a file; a damaged one, or none, has no answers."""
        found = answers_in(path)
        self.kept = frozenset(found)
        self.answers = newest(found | self.answers)
        self.asked = {}
        self.unread = None

    def read_if_asked(self, path: Path) -> None:
        """As `read`, but only when the next question is asked: a process that asks none need not read the file."""
        self.asked = {}
        self.unread = path

    def write(self, path: Path) -> None:
        """Write what has been asked since the file was read, if it lacks any of it.

        The file keeps what other processes have written in the meantime.
        """
        if self.asked.keys() - self.kept:
            others = {question: answer for question, answer in answers_in(path).items() if question not in self.asked}
            answers = newest(others | self.asked)
            write_checked(path, json.dumps(answers).encode())
            self.kept = frozenset(answers)


def answers_in(path: Path) -> dict[str, Any]:
    """Return the last MOST answers of a file, that of the oldest question first; none if there is no whole file."""
    try:
        content = read_checked(path)
    except OSError:
        return {}
    return {} if content is None else newest(json.loads(content))


def newest(answers: dict[str, Any]) -> dict[str, Any]:
    """Return the last MOST of some answers."""
    return dict(list(answers.items())[-MOST:])


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
