"""A `test_*.asm` file and the object files that it names, as one program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from callgate.asm.assembler import AsmError, Program
from callgate.asm.assembler.language.errors import Place
from callgate.tools.asmtest.bare.convention import Convention, convention_named
from callgate.tools.asmtest.cases.directives import Case, Statement, relations
from callgate.tools.asmtest.cases.values import value_of
from callgate.tools.asmtest.objects.linking import External
from callgate.tools.asmtest.objects.object_programs import ObjectPrograms
from callgate.tools.asmtest.objects.relocatable import ObjectError

OBJECT = re.compile(r"(?P<file>\"[^\"]+\"|\S+)(?:\s+at\s+(?P<address>.+))?$")
FixtureValue = Callable[[str], Any]


def abi_of(case: Case, default: str) -> Convention | None:
    """Return the calling convention of a case: its own, its file's, or the ini option's; AsmError if there is none."""
    statement = case.setting("abi")
    try:
        return convention_named(statement.rest if statement else default)
    except ValueError as error:
        if statement is None:
            place = Place(case.place.file, case.place.line, 1, case.place.text)
            raise AsmError(place, f"the ini option callgate_abi: {error}") from None
        raise statement.error(str(error)) from None


class Unit:
    """The objects of one file, and the names that its cases give them."""

    def __init__(self, text: str, path: Path, programs: ObjectPrograms) -> None:
        """`text` is the source of `path`, the cases' own code in it."""
        self.text = text
        self.path = path
        self.programs = programs

    def program(self, case: Case, fixture: FixtureValue) -> tuple[Program, dict[str, External]]:
        """Return the program for a case, and the names that Python answers; AsmErrors, AsmError at the wrong line."""
        lines = case.settings("object")
        objects = []
        for line in lines:
            match = OBJECT.match(line.rest)
            if match is None:
                raise line.error(f"{line.rest} is not a file", 'write ;@ object FILE, or ;@ object "a b.bin" at 0x7c00')
            address = match["address"]
            at = value_of(address, line, Program(0, [], {})) if address else None
            objects.append((self.path.parent / match["file"].strip('"'), at))
        external = self._external(case, fixture)
        try:
            return self.programs.text(self.text, self.path, objects, external), external
        except ObjectError as error:
            raise _line_of(str(error), lines, case).error(str(error)) from None
        except OSError as error:
            raise lines[0].error(f"{error.filename}: {error.strerror}") from None

    def _external(self, case: Case, fixture: FixtureValue) -> dict[str, External]:
        found: dict[str, External] = {}
        for line in case.settings("extern"):
            for relation in relations(line):
                if relation.operator != "=" or not re.fullmatch(r"[\w.$@]+", relation.left):
                    raise line.error(f"{relation.left} {relation.operator} {relation.right} gives nothing")
                found[relation.left] = self._given(line, relation.right, fixture)
        return found

    def _given(self, line: Statement, text: str, fixture: FixtureValue) -> External:
        """Return a value if the text is one of numbers and constants, else a fixture's, else the name of a label."""
        if not re.fullmatch(r"[A-Za-z_]\w*", text) or text in constant_names():
            return value_of(text, line, Program(0, [], {}))
        try:
            value: External = fixture(text)
        except LookupError:
            return text  # the value of a label is known to the linker
        if isinstance(value, bool) or not (isinstance(value, int) or callable(value)):
            raise line.error(f"the fixture {text} is {value!r}", "it has to be a function, or a number")
        return value


def constant_names() -> Mapping[str, int]:
    """Return the constants of the ABI."""
    from callgate.kernel.abi import constants

    return constants()


def _line_of(message: str, lines: list[Statement], case: Case) -> Statement:
    """Return the line that an error is about: the one whose file or name it mentions first."""
    words = set(re.findall(r"[\w.$@-]+", message))
    for line in (*lines, *case.settings("extern")):
        first = re.split(r"[\s=]", line.rest, maxsplit=1)[0].strip('"')
        if words & {first, Path(first).name}:
            return line
    return lines[0]
