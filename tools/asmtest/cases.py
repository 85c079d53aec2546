"""The language of cases: comments that begin with `;@` in a source that stays a valid source.

    ;@ case the lowest free slot is taken
    ;@   segment gs = 0x10000
    ;@   place   Partition at 0x10000: free = 0x6
    ;@   call    take_slot
    ;@   expect  ecx = 1, CF = 0, instructions <= 20

A case reaches to the next one.  The words and what follows them are in docs/testing.md; here they are
taken apart, and every mistake becomes an AsmError with file, line, column and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from callgate.asm.assembler import AsmError, AsmErrors
from callgate.asm.assembler.errors import Place, near_miss, printable
from callgate.asm.assembler.macros import split_arguments
from callgate.asm.assembler.source import split_lines
from callgate.tools.asmtest.lines import lookalikes, may_be_switched_off, outside_comments

DIRECTIVE = re.compile(r"\s*;@\s*(?P<word>\w*)\s*(?P<rest>.*?)\s*$")
RELATION = re.compile(r"(?P<left>[^=!<>]+?)\s*(?P<operator>==|!=|<=|>=|=|<|>)\s*(?P<right>.+)$", re.DOTALL)
STRUCTURE = re.compile(r"(?P<name>[A-Za-z_]\w*)\s+at\s+(?P<address>[^:]+?)\s*:\s*(?P<fields>.+)$")
USAGE = {
    "case": ";@ case what the routine does",
    "set": ";@ set eax = 5, CF = 1, dword [0x10000] = 7",
    "place": ";@ place Partition at 0x10000: free = 0x6",
    "segment": ";@ segment gs = 0x10000",
    "stack": ";@ stack 1, 2",
    "ring": ";@ ring 3",
    "protect": ";@ protect 0x20000 = r",
    "host": ";@ host FIRST_USE or ;@ host FIRST_USE: eax = 1",
    "call": ";@ call take_slot",
    "code": ";@ code add eax, ebx",
    "fuel": ";@ fuel 1000",
    "expect": ";@ expect ecx = 1, CF = 0, instructions <= 20",
}
REPEATED = {"set", "place", "segment", "protect", "host", "code", "expect"}
OPERATORS = ("=", "==", "!=", "<=", ">=", "<", ">")


@dataclass(frozen=True, slots=True)
class Statement:
    """One `;@` line: its word, what follows, where."""

    word: str
    rest: str
    place: Place

    def error(self, message: str, hint: str = "") -> AsmError:
        """Return an error at this line that says how such a line is written."""
        return AsmError(self.place, message, hint or f"write for instance {USAGE[self.word]}")


@dataclass(frozen=True, slots=True)
class Relation:
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

    def all(self, *words: str) -> Iterator[Statement]:
        """Yield the lines with one of these words, in order."""
        return (statement for statement in self.statements if statement.word in words)

    def one(self, word: str) -> Statement | None:
        """Return the line with a word that stands once at most."""
        return next(self.all(word), None)

    @property
    def label(self) -> str:
        """The label that the case's own code gets."""
        return f"__case_{self.place.line}"

    @property
    def name(self) -> str:
        """The title as pytest can select it: `::` separates the parts of a node id."""
        return re.sub("::+", ":", self.title)


def parse(text: str, file: str) -> list[Case]:
    """Return the cases of a source; AsmErrors with every mistake that can be seen without running."""
    cases: list[Case] = []
    titles: set[str] = set()
    errors: list[AsmError] = []
    doubtful: set[int] = set()  # cases by their line, which lack what a wrong line was to say
    for number, line in outside_comments(text):
        match = DIRECTIVE.match(line)
        if match is None:
            errors.extend(lookalikes(file, number, line, USAGE))
            continue
        place = Place(file, number, match.start("word") + 1, line)
        try:
            _take(cases, titles, Statement(match["word"], match["rest"], place))
        except AsmError as error:
            errors.append(error)
            doubtful.update(case.place.line for case in cases[-1:])
    for case in cases:
        if case.place.line not in doubtful:
            errors.extend(_check(case))
    if errors:
        raise AsmErrors(sorted(errors, key=lambda error: error.line))
    return cases


def _take(cases: list[Case], titles: set[str], statement: Statement) -> None:
    word = statement.word
    if word not in USAGE:
        hint = near_miss(word, USAGE) or f"there are {', '.join(USAGE)}"
        raise AsmError(statement.place, f"there is no ;@ {word}" if word else "an empty ;@ line", hint)
    if not statement.rest:
        raise statement.error(f";@ {word} says nothing")
    if word == "case":
        case = Case(printable(statement.rest), statement.place)
        if case.name in titles:
            raise statement.error(f"there is a case {case.name!r} already", "give each case a title of its own")
        titles.add(case.name)
        cases.append(case)
        return
    if not cases:
        raise statement.error(f";@ {word} stands before the first case", "begin with ;@ case what is tested")
    if word not in REPEATED and cases[-1].one(word):
        raise statement.error(f"a second ;@ {word} in one case", "begin another case")
    cases[-1].statements.append(statement)


def _check(case: Case) -> Iterator[AsmError]:
    """Yield what a case lacks."""
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
            raise statement.error(f"{item!r} is no relation")
        operator = "=" if match["operator"] == "==" else match["operator"]
        found.append(Relation(match["left"].strip(), operator, match["right"].strip(), statement))
    return found


def structure_of(statement: Statement, text: str | None = None) -> tuple[str, str, list[Relation]] | None:
    """Return name, address and fields of `Structure at address: field = value`; None if it is not one."""
    match = STRUCTURE.match(statement.rest if text is None else text)
    if match is None:
        return None
    return match["name"], match["address"], relations(statement, match["fields"])


def as_written(error: AsmError, path: str, cases: list[Case]) -> AsmError:
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


def without_code(text: str, cases: list[Case], defined: Callable[[str], set[str]]) -> set[str]:
    """Return the labels of cases that stand where nothing is assembled: in a false `.if`, in a macro nobody calls.

    Each case gets a constant in place of its first line; `defined` returns those that a text defines.
    """
    if not may_be_switched_off(text):
        return set()
    lines = split_lines(text)
    for case in cases:
        lines[case.place.line - 1] = f"{case.label} = 1"
    return {case.label for case in cases} - defined("\n".join(lines))


def with_code(text: str, cases: list[Case]) -> str:
    """Return the source with the cases' own code in place of its comments; no line moves."""
    lines = split_lines(text)
    for case in cases:
        code = list(case.all("code"))
        for statement in code:
            label = f"{case.label}: " if statement is code[0] else "        "
            lines[statement.place.line - 1] = label + statement.rest
        if code:
            lines[code[-1].place.line] = "        ret"
    return "\n".join(lines) + "\n"
