"""The language of cases: comments that begin with `;@` in a source that stays a valid source.

    ;@ case the lowest free slot is taken
    ;@   segment gs = 0x10000
    ;@   place   Endpoint at 0x10000: free = 0x6
    ;@   call    take_slot
    ;@   expect  ecx = 1, CF = 0, instructions <= 20

A case reaches to the next one.  The words and their arguments are in docs/testing.md; here they are parsed, and every
mistake becomes an AsmError with file, line, column and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from callgate.asm.assembler import AsmError, AsmErrors
from callgate.asm.assembler.language.errors import Place, printable
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.language.source import split_lines
from callgate.kernel.common.near_miss import did_you_mean
from callgate.tools.asmtest.cases.lines import lookalikes, may_be_switched_off, outside_comments

DIRECTIVE = re.compile(r"\s*;@\s*(?P<word>\w*)\s*(?P<rest>.*?)\s*$")
RELATION = re.compile(r"(?P<left>[^=!<>]+?)\s*(?P<operator>==|!=|<=|>=|=|<|>)\s*(?P<right>.+)$", re.DOTALL)
STRUCTURE = re.compile(r"(?P<name>[A-Za-z_]\w*)\s+at\s+(?P<address>[^:]+?)\s*:\s*(?P<fields>.+)$")
USAGE = {
    "case": ";@ case what the routine does",
    "set": ";@ set eax = 5, CF = 1, dword [0x10000] = 7",
    "place": ";@ place Endpoint at 0x10000: free = 0x6",
    "segment": ";@ segment gs = 0x10000",
    "stack": ";@ stack 1, 2",
    "ring": ";@ ring 3",
    "protect": ";@ protect 0x20000 = r",
    "host": ";@ host FIRST_USE or ;@ host FIRST_USE: eax = 1",
    "call": ";@ call take_slot",
    "code": ";@ code add eax, ebx",
    "fuel": ";@ fuel 1000",
    "expect": ";@ expect ecx = 1, CF = 0, instructions <= 20",
    "args": ';@ args 1, [counter], "text"',
    "abi": ";@ abi cdecl",
    "each": ";@ each eax = 1, 2, 3",
    "skip": ";@ skip why the case is not run",
    "xfail": ";@ xfail why it fails today",
    "mark": ";@ mark slow, timeout(5)",
    "fixture": ";@ fixture compiled_objects",
    "object": ";@ object popcount.o",
    "extern": ";@ extern puts = stub",
}
SET_UP = {"set", "place", "segment", "protect", "host", "extern"}
REPEATED = SET_UP | {"code", "expect", "each", "mark", "fixture", "object"}
OF_FILE = {"abi", "skip", "xfail", "mark", "fixture", "object", "extern"}  # before the first case they are for all
PROSE = {"case", "skip", "xfail"}
QUOTED = re.compile(r"""[^;"']+|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|["']""")
OPERATORS = ("=", "==", "!=", "<=", ">=", "<", ">")


class Statement(NamedTuple):
    """One `;@` line: its word, its arguments, its place."""

    word: str
    rest: str
    place: Place

    def error(self, message: str, hint: str = "") -> AsmError:
        """Return an error at this line that shows how such a line is written."""
        return AsmError(self.place, message, hint or f"write for instance {USAGE[self.word]}")


class Relation(NamedTuple):
    """`left operator right`, as written."""

    left: str
    operator: str
    right: str
    statement: Statement


@dataclass(slots=True)
class Case:
    """A case: its title and its lines."""

    title: str
    place: Place
    statements: list[Statement] = field(default_factory=list)
    common: list[Statement] = field(default_factory=list)  # lines before the first case
    by_word: dict[str, list[Statement]] = field(default_factory=dict, init=False)  # `statements`

    def __post_init__(self) -> None:
        for statement in self.statements:
            self.by_word.setdefault(statement.word, []).append(statement)

    def add(self, statement: Statement) -> None:
        """Append a line."""
        self.statements.append(statement)
        self.by_word.setdefault(statement.word, []).append(statement)

    def all(self, word: str) -> Sequence[Statement]:
        """Return the lines with a word, in order."""
        return self.by_word.get(word, ())

    def one(self, word: str) -> Statement | None:
        """Return the line with a word that may occur once."""
        lines = self.by_word.get(word)
        return lines[0] if lines else None

    def settings(self, word: str) -> list[Statement]:
        """Return the lines with a word, those for all cases first."""
        return [statement for statement in (*self.common, *self.statements) if statement.word == word]

    def setting(self, word: str) -> Statement | None:
        """Return the line with a word that counts: the case's own, or the one for all."""
        return next(reversed(self.settings(word)), None)

    @property
    def label(self) -> str:
        """The label of the case's own code."""
        return f"__case_{self.place.line}"

    @property
    def name(self) -> str:
        """The title as pytest can select it."""
        return selectable(self.title)


def selectable(text: str) -> str:
    """Return a text as a test's name: `::` separates the parts of a node id."""
    return re.sub("::+", ":", text) if "::" in text else text


def parse(text: str, file: str) -> list[Case]:
    """Return the cases of a source; AsmErrors with every mistake that can be seen without running."""
    cases: list[Case] = []
    common: list[Statement] = []
    titles: set[str] = set()
    errors: list[AsmError] = []
    doubtful: set[int] = set()  # cases by their line, incomplete because a line was wrong
    for number, line in outside_comments(text):
        if "@" not in line:
            continue
        match = DIRECTIVE.match(line)
        if match is None:
            errors.extend(lookalikes(file, number, line, USAGE))
            continue
        place = Place(file, number, match.start("word") + 1, line)
        try:
            statement = Statement(match["word"], without_comment(match["word"], match["rest"]), place)
            _take(cases, common, titles, statement)
        except AsmError as error:
            errors.append(error)
            doubtful.update(case.place.line for case in cases[-1:])
    for case in cases:
        case.common = common
        if case.place.line not in doubtful:
            errors.extend(_check(case))
    if common and not cases and not errors:
        first = common[0]
        errors.append(first.error(f";@ {first.word} is for cases, and the file has none", f"add {USAGE['case']}"))
    if errors:
        raise AsmErrors(sorted(errors, key=lambda error: error.line))
    return cases


def without_comment(word: str, text: str) -> str:
    """Return the text before a comment: it begins with a semicolon, in prose with one after a blank."""
    if ";" not in text:
        return text.rstrip()
    if word in PROSE:
        return re.split(r"\s;", text, maxsplit=1)[0].rstrip()
    end = 0
    while (match := QUOTED.match(text, end)) is not None:
        end = match.end()
    return text[:end].rstrip()


def _take(cases: list[Case], common: list[Statement], titles: set[str], statement: Statement) -> None:
    word = statement.word
    if word not in USAGE:
        hint = did_you_mean(word, USAGE) or f"there are {', '.join(USAGE)}"
        raise AsmError(statement.place, f"there is no ;@ {word}" if word else "an empty ;@ line", hint)
    if not statement.rest:
        raise statement.error(f";@ {word} has no argument")
    if word == "case":
        case = Case(printable(statement.rest), statement.place)
        if case.name in titles:
            raise statement.error(f"case {case.name!r} already exists", "give each case a title of its own")
        titles.add(case.name)
        cases.append(case)
        return
    if word == "object" and cases:
        raise statement.error("objects belong to the whole file", "write ;@ object before the first case")
    if not cases and word in OF_FILE:
        if word not in REPEATED and any(other.word == word for other in common):
            raise statement.error(f"a second ;@ {word} for the whole file", "leave one out")
        common.append(statement)
        return
    if not cases:
        raise statement.error(f";@ {word} stands before the first case", "begin with ;@ case what is tested")
    if word not in REPEATED and cases[-1].one(word):
        raise statement.error(f"a second ;@ {word} in one case", "begin another case")
    cases[-1].add(statement)


def _check(case: Case) -> Iterator[AsmError]:
    """Yield errors about missing parts of a case."""
    code = list(case.all("code"))
    if bool(code) == bool(case.one("call")):
        hint = "name a routine with ;@ call, or hold instructions in ;@ code lines"
        yield AsmError(case.place, "a case runs one thing" if code else "the case runs nothing", hint)
    if not case.one("expect"):
        yield AsmError(case.place, "the case expects nothing", f"end it with {USAGE['expect']}")
    lines = [statement.place.line for statement in code]
    after = {statement.place.line for statement in case.all("expect")}
    if lines and (lines != list(range(lines[0], lines[-1] + 1)) or lines[-1] + 1 not in after):
        yield AsmError(code[-1].place, "the ;@ code lines are not in one piece before ;@ expect", "move them together")


def relations(statement: Statement, text: str | None = None) -> list[Relation]:
    """Return the `name = value` items of a line."""
    found = []
    for item in split_arguments(statement.rest if text is None else text):
        match = RELATION.match(item)
        if match is None or match["operator"] not in OPERATORS:
            raise statement.error(f"{item!r} is not a relation")
        operator = "=" if match["operator"] == "==" else match["operator"]
        found.append(Relation(match["left"].strip(), operator, match["right"].strip(), statement))
    return found


def structure_of(statement: Statement, text: str | None = None) -> tuple[str, str, list[Relation]] | None:
    """Return name, address and fields of `Structure at address: field = value`; None if it is not one."""
    text = statement.rest if text is None else text
    match = STRUCTURE.match(text) if ":" in text else None
    if match is None:
        return None
    return match["name"], match["address"], relations(statement, match["fields"])


def as_written(error: AsmError, path: str, cases: Sequence[Case]) -> AsmError:
    """Return an error of a case's own code at the place where the code is written."""
    if error.place.file == path:
        for case in cases:
            for statement in case.all("code"):
                if statement.place.line == error.line:
                    shift = statement.place.text.find(statement.rest) - error.place.text.find(statement.rest)
                    if case.label in error.message:
                        what = "the part of the source that the case stands in is assembled more than once"
                        return AsmError(case.place, what, "write it outside of .macro, .rept and .irp")
                    return AsmError(statement.place.at(error.column + shift), error.message, error.hint)
    return error


def without_code(text: str, cases: Sequence[Case], defined: Callable[[str], set[str]]) -> set[str]:
    """Return the labels of cases that stand where nothing is assembled: in a false `.if` or an unused macro.

    Each case gets a constant in place of its first line; `defined` returns those that a text defines.
    """
    if not may_be_switched_off(text):
        return set()
    lines = split_lines(text)
    for case in cases:
        lines[case.place.line - 1] = f"{case.label} = 1"
    return {case.label for case in cases} - defined("\n".join(lines))


def with_code(text: str, cases: Sequence[Case]) -> str:
    """Return the source with the cases' own code in place of their lines; no line moves."""
    lines = split_lines(text)
    for case in cases:
        for statement in case.statements:
            lines[statement.place.line - 1] = ""  # the assembler need not find out that it is a comment
        code = list(case.all("code"))
        for statement in code:
            label = f"{case.label}: " if statement is code[0] else "        "
            lines[statement.place.line - 1] = label + statement.rest
        if code:
            lines[code[-1].place.line] = "        ret"
    return "\n".join(lines) + "\n"
