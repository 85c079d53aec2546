"""From files to statements: includes, conditions, repetition, macros and structures.

The result is a flat list of logical lines, each with its place and the chain of includes and macro calls
that led to it.  Conditions see the constants that stand above them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callgate.asm.assembler.language.conditions import (
    CONDITIONS,
    DEFINITIONS,
    NUMBER_TESTS,
    TEXT_TESTS,
    refuse_text,
    test_text,
)
from callgate.asm.assembler.language.errors import AsmError, ErrorList, Place
from callgate.asm.assembler.language.expressions import BINARY_NUMBER, BinaryNumber, Unresolved, evaluate
from callgate.asm.assembler.language.macros import Macro, bind, define, instantiate, split_arguments, substitute
from callgate.asm.assembler.language.names import Scope, full_name
from callgate.asm.assembler.language.source import Line, Sources, text_lines, unquote
from callgate.kernel.common.near_miss import did_you_mean

DEPTH_LIMIT = 48
STEPS_LIMIT = 400_000
REPEAT_LIMIT = 65_536
IDENTIFIER = r"(?:(?-i:\.L)\w|[A-Za-z_])[A-Za-z0-9_.]*"
ASSIGNMENT = re.compile(
    rf"\s*(?P<name>{IDENTIFIER})\s*(?:=(?!=)|\.?equ\b(?!\s*,))\s*(?P<value>.*)$", re.IGNORECASE | re.ASCII
)
SETTING = re.compile(
    rf"\s*(?P<word>\.(?:set|equ))\s+(?P<name>{IDENTIFIER})\s*,\s*(?P<value>.*)$", re.IGNORECASE | re.ASCII
)
DIRECTIVE = re.compile(r"\s*(?P<word>\.[A-Za-z_0-9]\w*)(?![\w.:])(?!\s*:)\s*(?P<rest>.*)$", re.DOTALL | re.ASCII)
INVOCATION = re.compile(
    r"(?P<labels>\s*(?:[A-Za-z_.0-9][\w.]*\s*:\s*)*)(?P<name>[A-Za-z_]\w*)(?![\w.])\s*(?P<rest>.*)$",
    re.ASCII | re.DOTALL,
)
LABEL = re.compile(r"\s*(?P<name>\.?[A-Za-z_]\w*(?:\.\w+)*)\s*:(?!:)", re.ASCII)
COMMON = re.compile(r"\s*\.l?comm\s+(?P<name>[A-Za-z_.][\w.]*)", re.ASCII)
NAME = re.compile(r"\.?[A-Za-z_][\w.]*", re.ASCII)
BLOCKS = {".macro": ".endm", ".rept": ".endr", ".irp": ".endr", ".irpc": ".endr"}
ORPHANS = {
    ".endm": ".macro", ".endr": ".rept", ".endif": ".if", ".else": ".if", ".elif": ".if", ".elseif": ".if",
}  # fmt: skip
BRANCHES = (".elif", ".elseif", ".else")
LIKE_BRANCH = re.compile(r"\.el(?:s|if)\w*$")
STRUCTURES = (".struct", ".field", ".ends")
PREPROCESSED = (*CONDITIONS, *BLOCKS, *ORPHANS, *STRUCTURES, ".include", ".exitm", ".purgem")


class MacroEnd(Exception):
    """`.exitm` ends the call of a macro."""


@dataclass(slots=True)
class Structure:
    """A structure being declared."""

    name: str
    place: Place
    size: int = 0


@dataclass(slots=True)
class Preprocessor:
    """Expands one unit."""

    files: Sources
    defines: Mapping[str, int]
    errors: ErrorList
    constants: dict[str, int] = field(default_factory=dict)
    structures: dict[str, int] = field(default_factory=dict)
    macros: dict[str, Macro] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)  # those above, for .ifdef
    scope: Scope = field(default_factory=Scope)
    open_files: list[Path] = field(default_factory=list)
    structure: Structure | None = None
    calls: dict[str, int] = field(default_factory=dict)
    inside: int = 0
    unique: int = 0
    steps: int = 0

    def file(self, path: Path) -> list[Line]:
        """Return the expanded lines of a file; OSError if it cannot be read."""
        return self._all(self.files.lines(path, ()), path)

    def text(self, text: str, name: str) -> list[Line]:
        """Return the expanded lines of a text."""
        return self._all(text_lines(text, name), None)

    def _all(self, lines: list[Line], path: Path | None) -> list[Line]:
        self.open_files = [path] if path else []
        result = list(self._expand(lines, 0))
        if self.structure is not None:
            raise AsmError(self.structure.place, f"structure {self.structure.name} does not end", "close it with .ends")
        return result

    def lookup(self, name: str) -> int:
        """Return the value of a constant that is known so far."""
        for table in (self.constants, self.structures, self.defines):
            if name in table:
                return table[name]
        if BINARY_NUMBER.fullmatch(name):
            raise BinaryNumber
        raise Unresolved(name)

    def _step(self, line: Line) -> None:
        self.steps += 1
        if self.steps > STEPS_LIMIT:
            raise AsmError(line.place, f"the unit expands to more than {STEPS_LIMIT} lines")

    def _expand(self, lines: list[Line], depth: int) -> Iterator[Line]:
        """Yield lines with conditions, repetition, includes and macros resolved."""
        if depth > DEPTH_LIMIT:
            what = f"macros, includes and conditions are nested more than {DEPTH_LIMIT} deep"
            raise AsmError(lines[0].place, what, "does one of them call itself?")
        index = 0
        while index < len(lines):
            line = lines[index]
            self._step(line)
            match = DIRECTIVE.match(line.text)
            word = match["word"].lower() if match else ""
            if match is not None and word in CONDITIONS:
                body, index = self._condition(lines, index)
                if body:
                    yield from self._expand(body, depth + 1)
            elif match is not None and word in BLOCKS:
                body, index = take_block(lines, index, word)
                yield from self._block(word, match, body, line, depth)
            else:
                index += 1
                yield from self._single(line, word, match, depth)

    def _single(self, line: Line, word: str, match: re.Match[str] | None, depth: int) -> Iterator[Line]:
        """Yield the lines that one line expands to; an error in it is noted, and the next line follows."""
        try:
            if word in ORPHANS:
                hint = f"begin with {ORPHANS[word]}, or leave this out"
                raise AsmError(line.place, f"{word} without {ORPHANS[word]}", hint)
            if match is not None and word == ".include":
                yield from self._include(match["rest"], match.start("rest") + 1, line, depth)
            elif match is not None and word in (".exitm", ".purgem"):
                self._macro_word(word, match["rest"].strip(), line.place.at(match.start("rest") + 1))
            elif match is not None and word in STRUCTURES:
                self._structure(word, match["rest"].strip(), line.place.at(match.start("rest") + 1))
            else:
                yield from self._plain(line, depth)
        except AsmError as error:
            self.errors.add(error)

    def _plain(self, line: Line, depth: int) -> Iterator[Line]:
        if self.structure is not None:
            hint = f"close {self.structure.name} with .ends"
            raise AsmError(line.place, "only .field and .ends stand inside .struct", hint)
        call = INVOCATION.match(line.text) if self.macros else None
        macro = self.macros.get(call["name"]) if call else None
        if call is not None and macro is not None:
            if call["labels"].strip():
                self._remember_labels(call["labels"])
                yield Line(call["labels"], line.place)
            yield from self._call(macro, call["rest"], line.place.at(call.start("name") + 1), depth)
            return
        assignment = ASSIGNMENT.match(line.text) or SETTING.match(line.text)
        if assignment:
            self._remember(assignment, line)
        else:
            self._remember_labels(line.text)
        yield line

    def _remember_labels(self, text: str) -> None:
        """Note the labels that a line begins with, or the name of `.comm`."""
        position = 0
        while match := LABEL.match(text, position):
            name = match["name"]
            if not name.startswith("."):
                self.scope = Scope(name)
            self.labels.add(full_name(name, self.scope))
            position = match.end()
        if match := COMMON.match(text, position):
            self.labels.add(match["name"])

    def _call(self, macro: Macro, rest: str, place: Place, depth: int) -> Iterator[Line]:
        self.unique += 1
        calls = self.calls[macro.name] = self.calls.get(macro.name, -1) + 1
        values = bind(macro, rest, place) | {"@": str(self.unique), "+": str(calls)}
        body = instantiate(macro, values, place)
        self.inside += 1
        try:
            if body:
                yield from self._expand(body, depth + 1)
        except MacroEnd:
            pass
        finally:
            self.inside -= 1

    def _macro_word(self, word: str, rest: str, place: Place) -> None:
        """`.exitm` leaves the macro that is being called, `.purgem name` forgets one."""
        if word == ".exitm":
            if not self.inside:
                raise AsmError(place, ".exitm stands in no macro", "leave it out")
            refuse_text(word, rest, place)
            raise MacroEnd
        if self.macros.pop(rest, None) is None:
            raise AsmError(place, f"there is no macro {rest}", did_you_mean(rest, self.macros) or "write .purgem name")

    def _remember(self, match: re.Match[str], line: Line) -> None:
        """Note a constant's value for conditions; an error in it is reported when it is assembled."""
        try:
            value = evaluate(match["value"], line.place, match.start("value") + 1, self.lookup)
        except (Unresolved, AsmError):
            self.constants.pop(match["name"], None)
            return
        self.constants[match["name"]] = value

    def _evaluate(self, text: str, place: Place) -> int:
        """Return the value of an expression that must be known by now."""
        try:
            return evaluate(text, place, place.column, self.lookup)
        except Unresolved as error:
            hint = "use constants that are defined above; addresses are not known yet"
            raise AsmError(place, f"{error.name} has no value here", hint) from None

    def _block(self, word: str, match: re.Match[str], body: list[Line], line: Line, depth: int) -> Iterator[Line]:
        place = line.place.at(match.start("rest") + 1)
        try:
            if word == ".macro":
                define(self.macros, match["rest"], body, place)
                return
            copies = self._copies(word, match["rest"], body, place)
        except AsmError as error:
            self.errors.add(error)
            return
        for copy in copies:
            self._step(line)
            if copy:
                yield from self._expand(copy, depth + 1)

    def _rept(self, text: str, body: list[Line], place: Place) -> Iterator[list[Line]]:
        count = self._evaluate(text, place)
        if not 0 <= count <= REPEAT_LIMIT:
            raise AsmError(place, f".rept cannot repeat {count} times", f"write 0 to {REPEAT_LIMIT}")
        if any("\\+" in line.text for line in body):
            return ([substitute(line, {"+": str(number)}) for line in body] for number in range(count))
        return (body for _ in range(count))

    def _copies(self, word: str, text: str, body: list[Line], place: Place) -> Iterator[list[Line]]:
        """Return the bodies of a repetition."""
        if word == ".rept":
            return self._rept(text, body, place)
        name, *values = split_arguments(text)
        values = values or [""] * (word == ".irp")
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise AsmError(place, f"{word} wants a name", f"write {word} name, value" + ", value" * (word == ".irp"))
        if word == ".irpc":
            if len(values) != 1:
                raise AsmError(place, ".irpc wants a name and characters", "write .irpc name, characters")
            values = list(values[0].strip('"'))
        return (
            [substitute(item, {name: value, "+": str(number)}) for item in body] for number, value in enumerate(values)
        )

    def _include(self, rest: str, column: int, line: Line, depth: int) -> Iterator[Line]:
        place = line.place.at(column)
        name = unquote(rest, place)
        path = self.files.find(name, place, self.open_files[-1] if self.open_files else None)
        if any(path.resolve() == other.resolve() for other in self.open_files):
            cycle = " includes ".join(other.name for other in (*self.open_files, path))
            raise AsmError(place, f"{name} includes itself", cycle)
        chain = (f"included from {line.place.file}:{line.place.line}", *line.place.chain)
        lines = self.files.lines(path, chain, place)
        self.open_files.append(path)
        if lines:
            yield from self._expand(lines, depth + 1)
        self.open_files.pop()

    def _structure(self, word: str, rest: str, place: Place) -> None:
        """Take in `.struct Name`, `.field name, size` or `.ends`."""
        if word == ".struct":
            if self.structure is not None:
                raise AsmError(place, "structures cannot be nested", f"close {self.structure.name} with .ends")
            self.structure = Structure(structure_name(rest, place), place)
            return
        if self.structure is None:
            raise AsmError(place, f"{word} without .struct", "begin with .struct Name")
        if word == ".ends":
            self._define_field(f"sizeof({self.structure.name})", self.structure.size, place)
            self.structure = None
            return
        name, *size = split_arguments(rest)
        if len(size) != 1:
            raise AsmError(place, "a field has a name and a size", "write .field name, size")
        value = self._evaluate(size[0], place)
        if not 0 <= value < 1 << 31:
            raise AsmError(place, f"{value} is not a size")
        self._define_field(f"{self.structure.name}.{structure_name(name, place)}", self.structure.size, place)
        self.structure.size += value

    def _define_field(self, name: str, value: int, place: Place) -> None:
        known = self.structures.get(name, self.defines.get(name))
        if known is not None and (known != value or name in self.structures):
            raise AsmError(place, f"{name} is defined twice", f"the first time as {known:#x}")
        self.structures[name] = value

    def _condition(self, lines: list[Line], start: int) -> tuple[list[Line], int]:
        """Return the lines of the branch that holds, and the index after `.endif`."""
        taken: list[Line] = []
        done = active = closed = False
        depth = 0
        for index in range(start, len(lines)):
            line = lines[index]
            match = DIRECTIVE.match(line.text)
            word = match["word"].lower() if match else ""
            depth += word in CONDITIONS
            if match is not None and depth == 1 and word in (*CONDITIONS, *BRANCHES):
                place = line.place.at(match.start("rest") + 1)
                if closed:
                    raise AsmError(line.place, f"{word} after .else", "close the condition with .endif first")
                closed = word == ".else"
                if closed:
                    refuse_text(word, match["rest"], place)
                active = not done and self._test(word, match["rest"], place)
                done = done or active
            elif match is not None and word == ".endif" and depth == 1:
                refuse_text(word, match["rest"], line.place.at(match.start("rest") + 1))
                return taken, index + 1
            elif depth == 1 and LIKE_BRANCH.match(word):
                hint = "write .elif condition, or .else and .if"
                raise AsmError(line.place, f"there is no directive {word}", hint)
            elif active:
                taken.append(line)
            depth -= word == ".endif"
        raise AsmError(lines[start].place, "the condition does not end", "close it with .endif")

    def _test(self, word: str, rest: str, place: Place) -> bool:
        if word == ".else":
            return True
        try:
            if word in DEFINITIONS:
                return self._known(rest.strip(), place) == (word == ".ifdef")
            if word in TEXT_TESTS:
                return test_text(word, rest, place)
            return NUMBER_TESTS[word](self._evaluate(rest, place))
        except AsmError as error:
            self.errors.add(error)
            return False

    def _known(self, name: str, place: Place) -> bool:
        if not name:
            raise AsmError(place, "the name is missing", "write .ifdef name")
        if not NAME.fullmatch(name):
            raise AsmError(place, f"{name} is not one name", "write .ifdef name, or .if with a condition")
        known = (self.constants, self.structures, self.defines, self.macros)
        return full_name(name, self.scope) in self.labels or any(name in table for table in known)


def structure_name(text: str, place: Place) -> str:
    """Return the name of a structure or field."""
    if not re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII):
        what = f"{text} is not the name of a structure or field" if text else "a structure or field has no name"
        raise AsmError(place, what, "write .struct Name, or .field name, size")
    return text


def take_block(lines: list[Line], start: int, word: str) -> tuple[list[Line], int]:
    """Return the lines of a block, blocks inside it included, and the index after its end."""
    end = BLOCKS[word]
    depth = 0
    for index in range(start, len(lines)):
        match = DIRECTIVE.match(lines[index].text)
        found = match["word"].lower() if match else ""
        depth += BLOCKS.get(found) == end
        depth -= found == end
        if not depth:
            if match is not None:
                refuse_text(found, match["rest"], lines[index].place.at(match.start("rest") + 1))
            return lines[start + 1 : index], index + 1
    raise AsmError(lines[start].place, f"{word} does not end", f"close it with {end}")
