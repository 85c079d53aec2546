"""Find each condition of the kernel's policy, and say what would notice if it were not there.

    python tests/mutants/conditions.py          the conditions that nothing accounts for
    python tests/mutants/conditions.py --counts how many there are, and what accounts for them

A condition is the test of an `if`, an `elif` or an `a if b else c` in a function of the kernel's policy.  To switch it
off is to evaluate it and to go on as if it were false.  Each condition is in one of three places:

* a mutant of `tests/mutants` changes or removes it, or all that it decides (a check or a rule);
* `conditions/noticed.toml` names a test that fails when it is switched off (`search.py` finds and tries them);
* `conditions/left_out.toml` says why no test can fail.

A condition is named by its function and its text, as `Cache.lock: block.busy`; the second of the same text in a
function ends with ` (2)`.
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

from run import LISTS, ROOT, Mutant, read_lists

KERNEL = ROOT / "kernel"
# What is no policy: the emulated machine, what watches the kernel from outside of it, and the layout of its data.
OTHER_ROOMS = ("abi", "machine", "watching")
NOTICED = LISTS / "conditions" / "noticed.toml"
LEFT_OUT = LISTS / "conditions" / "left_out.toml"
Decision = ast.If | ast.IfExp
JUMP = re.compile(r"\s+j(?!mp\b)[a-z]+\s")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: its file from the project's root, its name there, its lines, and those of what it decides."""

    file: str
    name: str
    lines: range
    decides: range

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


def files(kernel: Path = KERNEL) -> Iterator[Path]:
    """Return the kernel's files of policy, in the order of their names."""
    for path in sorted(kernel.rglob("*.py")):
        if path.relative_to(kernel).parts[0] not in OTHER_ROOMS:
            yield path


def all_conditions(root: Path = ROOT) -> list[Condition]:
    """Return each condition of the kernel's policy."""
    found = []
    for path in files(root / "kernel"):
        for name, node in find(ast.parse(path.read_text(encoding="utf-8"))):
            first = node.body[0] if isinstance(node, ast.If) else node.body
            last = node.body[-1] if isinstance(node, ast.If) else node.body
            lines = range(node.test.lineno, (node.test.end_lineno or 0) + 1)
            decides = range(first.lineno, (last.end_lineno or 0) + 1)
            found.append(Condition(path.relative_to(root).as_posix(), name, lines, decides))
    return found


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
    changes = changes_of(mutants, root)
    return {one for one in conditions if any(is_changed(one, lines) for lines in changes.get(one.file, ()))}


def changes_of(mutants: Iterable[Mutant], root: Path = ROOT) -> dict[str, list[set[int]]]:
    """Return the lines that each mutant of a file changes."""
    changes: dict[str, list[set[int]]] = {}
    for mutant in mutants:
        text = (root / mutant.file).read_text(encoding="utf-8")
        changes.setdefault(mutant.file, []).append(changed_lines(text, text.replace(mutant.old, mutant.new)))
    return changes


def jumps(mutants: Iterable[Mutant], root: Path = ROOT) -> tuple[int, int]:
    """Return how many conditional jumps the kernel's machine code has, and how many of their lines mutants change."""
    changes = changes_of((mutant for mutant in mutants if mutant.file.startswith("asm/kernel/")), root)
    found = {
        (path.relative_to(root).as_posix(), number)
        for path in (root / "asm" / "kernel").rglob("*.asm")
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if JUMP.match(line)
    }
    return len(found), len(found & {(file, line) for file, sets in changes.items() for lines in sets for line in lines})


def read_noticed(path: Path = NOTICED) -> dict[str, dict[str, str]]:
    """Return, for each file, the test that fails without a condition, by the condition's name."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


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
    conditions = all_conditions()
    return Account(
        conditions,
        named_by_mutants(conditions, read_lists()),
        pairs(read_noticed()),
        {pair for _, group in read_left_out() for pair in pairs(group)},
    )


def table(state: Account, left_out: Iterable[tuple[str, dict[str, list[str]]]]) -> str:
    """Return how many conditions there are, and those that are left out with the reasons, as Markdown."""
    tests = [test for listed in read_noticed().values() for test in listed.values()]
    attacks = sum(test.startswith("tests/attacks/") for test in tests)
    rows = [
        ("in the kernel's policy", len(state.conditions)),
        ("that a mutant of the lists below changes, or all that they decide", len(state.mutants)),
        ("without which another test fails; it is an attack's", attacks),
        ("without which another test fails; it is not an attack's", len(tests) - attacks),
        ("left out", len(state.left_out)),
    ]
    there, changed = jumps(read_lists())
    rows += [("conditional jumps of machine code", there), ("conditional jumps that mutants change", changed)]
    text = ["| conditions | number |", "| --- | --- |", *(f"| {what} | {number} |" for what, number in rows), ""]
    text += ["| left out | why no test fails without it |", "| --- | --- |"]
    for reason, listed in left_out:
        names = [f"`{file}`: `{name}`".replace("|", "\\|") for file, found in listed.items() for name in found]
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
