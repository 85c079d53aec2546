"""The effects of `;@ each`, `;@ skip`, `;@ xfail` and `;@ mark`: one test for each value, and pytest's marks.

;@ each eax = 1, 2, 3               a register or flag is set
;@ each (n, bits) = (0, 0), (255, 8)  names that stand for these values in the case's other lines
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler.language.macros import split_arguments
from callgate.tools.asmtest.board.result import FLAGS, PARTS, WHOLE
from callgate.tools.asmtest.board.wide import SETTABLE
from callgate.tools.asmtest.cases.directives import PROSE, Case, Statement, selectable

if TYPE_CHECKING:
    import pytest

EACH = re.compile(r"(?P<names>\([^=]*\)|[^=()]+?)\s*=(?!=)\s*(?P<values>.+)$", re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
MARK = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<arguments>\(.*\))?$", re.DOTALL)
PIECES = re.compile(r"""\"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_]\w*(?:\.\w+)*|.""", re.ASCII | re.DOTALL)
SET: Final = frozenset((*WHOLE, *FLAGS, "eflags", *SETTABLE))
AS_WRITTEN: Final = PROSE | {"each", "mark", "fixture", "object", "extern", "code"}
MARKING: Final = frozenset(("skip", "xfail", "mark"))
Values = tuple[tuple[str, str], ...]  # names and their values


def variants(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield (name of the test, case) for each combination of values of `;@ each`; AsmError for mistakes."""
    lines = list(case.all("each"))
    if not lines:
        yield case.name, case
        return
    chosen = [list(_values(line)) for line in lines]
    names = [name for values in chosen for name, _ in values[0]]
    for name in names:
        if names.count(name) > 1:
            raise lines[-1].error(f"{name} already has values", "give each name one ;@ each line")
    for combination in product(*chosen):
        given = dict(pair for values in combination for pair in values)
        values = selectable(",".join(f"{name}={text}" for name, text in given.items()))
        yield f"{case.name}[{values}]", _with(case, lines[0], given)


def _values(statement: Statement) -> Iterator[Values]:
    match = EACH.match(statement.rest)
    if match is None:
        raise statement.error(f"{statement.rest!r} gives no values")
    several = match["names"].startswith("(")
    names = [name.strip() for name in match["names"].strip("()").split(",")]
    for name in names:
        if not NAME.fullmatch(name):
            raise statement.error(f"{name or 'nothing'} is not a name")
        if name in PARTS:
            raise statement.error(f"{name} cannot be set", "registers of 32 bits and flags can")
    seen: set[Values] = set()
    for item in split_arguments(match["values"]):
        if several and not (item.startswith("(") and item.endswith(")")):
            raise statement.error(
                f"{item or 'nothing'} is no ({', '.join(names)})", ";@ each (n, bits) = (0, 0), (255, 8)"
            )
        texts = split_arguments(item[1:-1]) if several else [item]
        if len(texts) != len(names) or not all(texts):
            raise statement.error(f"{item or 'an empty value'} has no value for each of {', '.join(names)}")
        values = tuple(zip(names, texts, strict=True))
        if values in seen:
            raise statement.error(f"{item} is given twice", "leave one out")
        seen.add(values)
        yield values


def _with(case: Case, line: Statement, given: dict[str, str]) -> Case:
    """Return a case with registers set and names replaced."""
    names = {name: text for name, text in given.items() if name not in SET}
    statements = [
        statement if statement.word in AS_WRITTEN else statement._replace(rest=_replaced(statement.rest, names))
        for statement in case.statements
    ]
    statements += [Statement("set", f"{name} = {text}", line.place) for name, text in given.items() if name in SET]
    return replace(case, statements=statements)


def _replaced(text: str, names: dict[str, str]) -> str:
    """Return a line with names replaced, not within quotes."""

    def one(match: re.Match[str]) -> str:
        value = names.get(match[0])
        if value is None:
            return match[0]
        return value if re.fullmatch(r"[\w.]+|\".*\"", value, re.DOTALL) else f"({value})"

    return PIECES.sub(one, text) if names else text


def marks(case: Case) -> list[pytest.MarkDecorator]:
    """Return the marks that a case's lines ask for; AsmError for other words."""
    if not case.common and MARKING.isdisjoint(case.by_word):
        return []
    import pytest

    found: list[pytest.MarkDecorator] = []
    for word in ("skip", "xfail"):
        statement = case.setting(word)
        if statement is not None:
            found.append(getattr(pytest.mark, word)(reason=statement.rest))
    for statement in case.settings("mark"):
        for item in split_arguments(statement.rest):
            found.append(_mark(statement, item))
    return found


def _mark(statement: Statement, text: str) -> pytest.MarkDecorator:
    import pytest

    match = MARK.match(text)
    if match is None:
        raise statement.error(f"{text or 'nothing'} is not a mark")
    try:
        arguments, options = _literals(match["arguments"] or "()")
    except (SyntaxError, ValueError):
        raise statement.error(f"the arguments of {match['name']} are not numbers, texts and lists of them") from None
    try:
        mark: pytest.MarkDecorator = getattr(pytest.mark, match["name"])
    except pytest.fail.Exception as error:  # --strict-markers
        raise statement.error(str(error).rstrip("."), "register it in the ini option `markers`") from None
    return mark.with_args(*arguments, **options)


def _literals(text: str) -> tuple[list[Any], dict[str, Any]]:
    call = ast.parse(f"mark{text}", mode="eval").body
    assert isinstance(call, ast.Call)
    arguments = [ast.literal_eval(item) for item in call.args]
    return arguments, {str(item.arg): ast.literal_eval(item.value) for item in call.keywords if item.arg}
