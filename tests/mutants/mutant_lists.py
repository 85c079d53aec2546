"""The lists of mutants: TOML files of `tests/mutants` and of `tests/mutants/rules`, each of one kind.

`kind = "check"` is what keeps ring 3 or a disk from harming others: an attack of tests/attacks must succeed without it.
`kind = "rule"` is what no attack can need; `reason` says why, once for the whole list.  A mutant of a list:

    [[mutant]]
    check = "A reply's handle must name a request that this thread was given"
    file = "asm/kernel/ipc/server_half.asm"
    old = '''text that occurs exactly once in the file'''
    new = '''what it becomes'''
    killed_by = ["tests/attacks/memory/test_forged_references.py::test_..."]
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "tests" / "mutants"
KINDS = ("check", "rule")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change that takes a check out of the project, and the tests that must notice."""

    check: str
    file: str
    old: str
    new: str
    killed_by: tuple[str, ...]
    listed_in: str
    kind: str = "check"
    reason: str = ""  # why no attack can need the rules of its list; nothing for checks

    @property
    def title(self) -> str:
        """The check and where it is made, in one line."""
        return f"{self.check} ({self.file})"

    def apply(self, tree: Path) -> str:
        """Change the file in `tree`; return its old content. ValueError if `old` does not occur exactly once."""
        path = tree / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.title}: `old` occurs {text.count(self.old)} times in {self.file}, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text


def read_lists(folder: Path = LISTS) -> list[Mutant]:
    """Return every mutant of every list, in the order of the files' names.

    ValueError if a list does not say its kind, or says why no attack is possible of checks and not of rules.
    """
    mutants = []
    for path in sorted((*folder.glob("*.toml"), *folder.glob("rules/*.toml"))):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        kind, reason = content.get("kind"), content.get("reason", "")
        if kind not in KINDS:
            raise ValueError(f"{path.name}: `kind` must be one of {', '.join(KINDS)}")
        if bool(reason) != (kind == "rule"):
            raise ValueError(f"{path.name}: a list of rules has a `reason`, and a list of checks has none")
        for entry in content["mutant"]:
            fields = {key: entry[key] for key in ("check", "file", "old", "new")}
            tests = tuple(entry["killed_by"])
            mutants.append(Mutant(**fields, killed_by=tests, listed_in=path.stem, kind=kind, reason=reason))
    return mutants


def table(mutants: Sequence[Mutant]) -> str:
    """Return the checks with the attacks that need them, then each group of rules with its reason, as Markdown."""
    checks = [mutant for mutant in mutants if mutant.kind == "check"]
    text = ["### Checks: an attack succeeds without each", "", *rows(checks, "an attack that succeeds without it"), ""]
    rules = [mutant for mutant in mutants if mutant.kind == "rule"]
    for reason in dict.fromkeys(mutant.reason for mutant in rules):
        group = [mutant for mutant in rules if mutant.reason == reason]
        text += [f"### Rules that no attack needs: {group[0].listed_in.replace('_', ' ')}", ""]
        text += [f"No attack is possible: {reason}.", "", *rows(group, "a test that fails without it"), ""]
    return "\n".join(text)


def rows(mutants: Iterable[Mutant], last: str) -> list[str]:
    """Return the lines of a Markdown table, whose last column is headed `last`."""
    lines = [f"| what is checked | where | {last} |", "| --- | --- | --- |"]
    for mutant in mutants:
        tests = "<br>".join(f"`{test_name(test)}`" for test in mutant.killed_by)
        lines.append(f"| {mutant.check.replace('|', chr(92) + '|')} | `{mutant.file}` | {tests} |")
    return lines


def test_name(test: str) -> str:
    """Return a test's file and its parameters, or its function where it has none: the name that a reader looks for."""
    path, _, function = test.partition("::")
    name, _, parameters = function.partition("[")
    return f"{Path(path).stem}[{parameters}" if parameters else f"{Path(path).stem}::{name}"
