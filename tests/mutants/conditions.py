"""Find each condition of the kernel, and say what would notice if it were not there.

    python tests/mutants/conditions.py          the conditions that nothing accounts for
    python tests/mutants/conditions.py --counts how many there are, and what accounts for them

A condition is the test of an `if`, an `elif` or an `a if b else c` in a function of the kernel's policy.  To switch it
off is to evaluate it and to go on as if it were false.  Of a condition that is joined by `and` or `or`, each operand
is switched, too: it is evaluated, and taken to be true in `and`, false in `or`, so that the others decide.  In
machine code each conditional jump is switched in two ways: it is never taken, or always (`jumps.py`).

Each of them is in one of three places:

* a mutant of `tests/mutants` changes or removes the condition, or all that it decides (a check or a rule), or takes out
  the line of a jump, which is then never taken; that says nothing of operands;
* `conditions/noticed.toml`, of jumps `noticed_jumps.toml`, names a test that fails when it is switched (`search.py`
  finds and tries them);
* `conditions/left_out.toml` says why no test can fail.

A condition is named by its function and its text, as `Cache.lock: block.busy`; the second of the same text in a
function ends with ` (2)`.  An operand's text follows after ` / `.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jumps
from mutant_lists import LISTS, ROOT, Mutant, read_lists

KERNEL = ROOT / "kernel"
# What is no policy: the emulated machine, what watches the kernel from outside of it, and the layout of its data.
OTHER_ROOMS = ("abi", "machine", "watching")
NOTICED = (LISTS / "conditions" / "noticed.toml", LISTS / "conditions" / "noticed_jumps.toml")  # of policy, of asm/
LEFT_OUT = LISTS / "conditions" / "left_out.toml"
Decision = ast.If | ast.IfExp
CONDITION, OPERAND, JUMP = "condition", "operand", "jump"  # what is switched


@dataclass(frozen=True, slots=True)
class Condition:
    """What is switched: its file from the project's root, its name there, its lines, and those of what it decides."""

    file: str
    name: str
    lines: range
    decides: range = range(0)
    kind: str = CONDITION

    @property
    def title(self) -> str:
        """The file, the line and the name, as people look for it."""
        return f"{self.file}:{self.lines.start}: {self.name}"


class _Finder(ast.NodeVisitor):
    """Collects the conditions of a file, in the order of its text."""

    def __init__(self) -> None:
        self.scopes: list[str] = []
        self.found: list[tuple[str, Decision]] = []
        self._seen: Counter[str] = Counter()

    def visit_If(self, node: ast.If) -> None:
        self._add(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._add(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def _enter(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scopes.append(node.name)
        self.generic_visit(node)
        self.scopes.pop()

    def _add(self, node: Decision) -> None:
        if not self.scopes:  # of a module: whether types are being checked
            return
        name = f"{'.'.join(self.scopes)}: {ast.unparse(node.test)}"
        self._seen[name] += 1
        number = self._seen[name]
        self.found.append((name if number == 1 else f"{name} ({number})", node))
        self.generic_visit(node)


def find(tree: ast.Module) -> list[tuple[str, Decision]]:
    """Return the name and the node of each condition of a parsed file."""
    finder = _Finder()
    finder.visit(tree)
    return finder.found


def operands(name: str, test: ast.expr) -> list[tuple[str, ast.BoolOp, int]]:
    """Return the operands of a condition: the name of each, the operation that has it, its number there."""
    found = []
    seen: Counter[str] = Counter()
    left = [test]
    while left:
        node = left.pop(0)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            left.append(node.operand)
        elif isinstance(node, ast.BoolOp):
            for number, operand in enumerate(node.values):
                text = f"{name} / {ast.unparse(operand)}"
                seen[text] += 1
                found.append((text if seen[text] == 1 else f"{text} ({seen[text]})", node, number))
            left += node.values
    return found


def files(kernel: Path = KERNEL) -> Iterator[Path]:
    """Return the kernel's files of policy, in the order of their names."""
    for path in sorted(kernel.rglob("*.py")):
        if path.relative_to(kernel).parts[0] not in OTHER_ROOMS:
            yield path


def all_conditions(root: Path = ROOT) -> list[Condition]:
    """Return each condition of the kernel's policy, and its operands after it."""
    found = []
    for path in files(root / "kernel"):
        file = path.relative_to(root).as_posix()
        for name, node in find(ast.parse(path.read_text(encoding="utf-8"))):
            first = node.body[0] if isinstance(node, ast.If) else node.body
            last = node.body[-1] if isinstance(node, ast.If) else node.body
            decides = range(first.lineno, (last.end_lineno or 0) + 1)
            found.append(Condition(file, name, lines_of(node.test), decides))
            for operand, parent, number in operands(name, node.test):
                found.append(Condition(file, operand, lines_of(parent.values[number]), kind=OPERAND))
    return found


def lines_of(node: ast.expr) -> range:
    """Return the numbers of an expression's lines."""
    return range(node.lineno, (node.end_lineno or 0) + 1)


def all_jumps() -> list[Condition]:
    """Return each way to switch a conditional jump of the kernel's machine code."""
    return [
        Condition(jump.file, case, range(jump.line, jump.line + 1), kind=JUMP)
        for jump in jumps.all_jumps()
        for case in jump.cases
    ]


def changed_lines(before: str, after: str) -> set[int]:
    """Return the numbers of the lines of `before` that `after` does not have, from 1."""
    blocks = difflib.SequenceMatcher(None, before.split("\n"), after.split("\n"), autojunk=False).get_matching_blocks()
    kept = {number for block in blocks for number in range(block.a + 1, block.a + block.size + 1)}
    return set(range(1, before.count("\n") + 2)) - kept


def is_changed(condition: Condition, lines: set[int]) -> bool:
    """Say whether one of the changed lines is the condition's, or all that it decides are changed."""
    return not lines.isdisjoint(condition.lines) or lines.issuperset(condition.decides)


def named_by_mutants(conditions: Iterable[Condition], mutants: Iterable[Mutant], root: Path = ROOT) -> set[Condition]:
    """Return the conditions that mutants change or remove, or whose body they do."""
    mutants = list(mutants)
    changes = changes_of(mutants, root)
    removed = [(mutant, *changes_of([mutant], root)[mutant.file]) for mutant in mutants if mutant.file.endswith(".asm")]
    found = set()
    for one in conditions:
        if one.kind == CONDITION and any(is_changed(one, lines) for lines in changes.get(one.file, ())):
            found.add(one)
        if one.kind == JUMP and any(m.file == one.file and is_switched(one, m, lines) for m, lines in removed):
            found.add(one)
    return found


def is_switched(jump: Condition, mutant: Mutant, lines: set[int]) -> bool:
    """Say whether a mutant that changes these lines has a jump never taken: its line is the last that is gone."""
    text, _, way = jump.name.rpartition(", ")
    target = text.partition(" (")[0].split()[-1]
    still_there = re.search(rf"\bj[a-z]+\s+{re.escape(target)}\b", mutant.new) is not None
    made_by_macro = text.count(": ") > 1
    return way == jumps.WAYS[0] and max(lines) == jump.lines.start and not made_by_macro and not still_there


def changes_of(mutants: Iterable[Mutant], root: Path = ROOT) -> dict[str, list[set[int]]]:
    """Return the lines that each mutant of a file changes."""
    changes: dict[str, list[set[int]]] = {}
    for mutant in mutants:
        text = (root / mutant.file).read_text(encoding="utf-8")
        changes.setdefault(mutant.file, []).append(changed_lines(text, text.replace(mutant.old, mutant.new)))
    return changes


def read_noticed(paths: Sequence[Path] = NOTICED) -> dict[str, dict[str, str]]:
    """Return, for each file, the test that fails without a condition, by the condition's name."""
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        found |= tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def read_left_out(path: Path = LEFT_OUT) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the reasons why no test fails, each with the conditions of each file for which it holds."""
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["group"]
    return [(group["reason"], group["conditions"]) for group in groups]


@dataclass(frozen=True, slots=True)
class Account:
    """What accounts for each condition; a condition has one place."""

    conditions: list[Condition]
    mutants: set[Condition]
    noticed: set[tuple[str, str]]
    left_out: set[tuple[str, str]]

    @property
    def missing(self) -> list[Condition]:
        """Conditions that nothing accounts for."""
        known = self.noticed | self.left_out
        return [one for one in self.conditions if one not in self.mutants and (one.file, one.name) not in known]

    @property
    def stale(self) -> list[tuple[str, str]]:
        """What the lists name and the kernel does not have, or has in two lists."""
        there = {(one.file, one.name) for one in self.conditions if one not in self.mutants}
        return sorted(((self.noticed | self.left_out) - there) | (self.noticed & self.left_out))


def account() -> Account:
    """Return what accounts for each condition of the kernel today."""
    conditions = [*all_conditions(), *all_jumps()]
    noticed = pairs(read_noticed())
    named = named_by_mutants(conditions, read_lists())
    return Account(
        conditions,
        {one for one in named if one.kind == CONDITION or (one.file, one.name) not in noticed},
        noticed,
        {pair for _, group in read_left_out() for pair in pairs(group)},
    )


def table(state: Account, left_out: Iterable[tuple[str, dict[str, list[str]]]]) -> str:
    """Return how many conditions there are, and those that are left out with the reasons, as Markdown."""
    kinds = {(one.file, one.name): one.kind for one in state.conditions}
    listed = {(file, name): test for file, tests in read_noticed().items() for name, test in tests.items()}
    attacks = {pair for pair, test in listed.items() if test.startswith("tests/attacks/")}

    def row(what: str, pairs_of: Iterable[tuple[str, str]]) -> str:
        counts = Counter(kinds.get(pair) for pair in pairs_of)
        return f"| {what} | {counts[CONDITION]} | {counts[OPERAND]} | {counts[JUMP]} |"

    text = [
        "| | conditions of policy | their operands | conditional jumps, two ways each |",
        "| --- | --- | --- | --- |",
        row("all", kinds),
        row(
            "a mutant of the lists below changes it, or all that it decides", ((m.file, m.name) for m in state.mutants)
        ),
        row("another test fails without it; it is an attack's", attacks),
        row("another test fails without it; it is not an attack's", listed.keys() - attacks),
        row("left out", state.left_out),
        "",
        "| left out | why no test fails without it |",
        "| --- | --- |",
    ]
    for reason, groups in left_out:
        names = [f"`{file}`: `{name}`".replace("|", "\\|") for file, found in groups.items() for name in found]
        text.append(f"| {'<br>'.join(names)} | {reason} |")
    return "\n".join([*text, ""])


def pairs(listed: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Return (file, name) of each condition of a list."""
    return {(file, name) for file, names in listed.items() for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 if a condition is accounted for by nothing."""
    parser = argparse.ArgumentParser(description="List the kernel's conditions that no mutant names and no list has.")
    parser.add_argument("--counts", action="store_true", help="print how many there are, and in which list")
    options = parser.parse_args(arguments)
    state = account()
    if options.counts:
        print(f"{len(state.conditions)} conditions: {len(state.mutants)} in mutants,")  # noqa: T201
        print(f"{len(state.noticed)} noticed, {len(state.left_out)} left out")  # noqa: T201
    for condition in state.missing:
        print(condition.title)  # noqa: T201
    for file, name in state.stale:
        print(f"not in the kernel, or listed twice: {file}: {name}")  # noqa: T201
    return 1 if state.missing or state.stale else 0


if __name__ == "__main__":
    sys.exit(main())
