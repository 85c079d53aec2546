"""Take one rule at a time out of a copy of the project, and see that a test fails without it.

    python tests/mutants/run.py                 all mutants
    python tests/mutants/run.py handle lock     those whose check, file or list contains a word
    python tests/mutants/run.py --jobs 2 --json build/mutants.json
    python tests/mutants/run.py --part 2/4      every fourth, from the second on
    python tests/mutants/run.py --table         print the tables of docs/security.md

Each TOML file of `tests/mutants` and of `tests/mutants/rules` is a list of mutants of one kind:

    kind = "check"              what keeps ring 3 or a disk from harming others: an attack of tests/attacks must succeed
                                without it
    kind = "rule"               what no attack can need; `reason` says why, once for the whole list

    [[mutant]]
    check = "A reply's handle must name a request that this thread was given"
    file = "asm/kernel/ipc/server_half.asm"
    old = '''text that occurs exactly once in the file'''
    new = '''what it becomes'''
    killed_by = ["tests/attacks/memory/test_forged_references.py::test_..."]

A mutant is killed if one of its tests fails.  A test that cannot even start (the kernel does not assemble, a
fixture raises) proves nothing and counts as an error.  The exit code is 0 if every mutant was killed, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "tests" / "mutants"
KINDS = ("check", "rule")
TIME_LIMIT = 600  # seconds for the tests of one mutant
INTERNAL_ERROR = 3  # pytest's exit code
SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a mutant: killed, survived or error."""

    mutant: Mutant
    verdict: str
    detail: str


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


def copy_tree(target: Path) -> None:
    """Copy what git knows of the project, changes included, and make it importable as `callgate`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listing.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "build" / "ns").mkdir(parents=True)
    (target / "build" / "ns" / "callgate").symlink_to("../..")


def run_tests(tree: Path, tests: Iterable[str]) -> tuple[int, dict[str, int], str]:
    """Run tests in a copy; return pytest's exit code, its counts by word, and the end of its output."""
    environment = os.environ | {"PYTHONPATH": str(tree / "build" / "ns"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["CALLGATE_THOROUGH"] = "1"
    # A plain assert: comparing two files of some 100 KiB line by line, as pytest does for people, takes minutes.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *tests]
    try:
        result = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, {"failed": 1}, f"the tests did not end within {TIME_LIMIT} s"
    lines = result.stdout.strip().splitlines() or [result.stderr.strip()]
    counts = {word.rstrip("s"): int(number) for number, word in SUMMARY.findall(lines[-1])}
    return result.returncode, counts, "\n".join(lines[-12:])


def judge(mutant: Mutant, tree: Path) -> Outcome:
    """Apply a mutant, run its tests, and put the file back."""
    try:
        before = mutant.apply(tree)
    except (OSError, ValueError) as error:
        return Outcome(mutant, "error", str(error))
    try:
        status, counts, tail = run_tests(tree, mutant.killed_by)
        if status == INTERNAL_ERROR:  # a time limit may strike between a test and its report: once more
            status, counts, tail = run_tests(tree, mutant.killed_by)
    finally:
        (tree / mutant.file).write_text(before, encoding="utf-8")
    ended_by_signal = status < 0  # the mutant has ended the process of the tests
    if (status == 1 and counts.get("failed")) or ended_by_signal:
        return Outcome(mutant, "killed", "")
    if status == 0 and counts.get("passed"):
        return Outcome(mutant, "survived", f"{mutant.killed_by} passed")
    return Outcome(mutant, "error", tail)


def check_tests_pass(tree: Path, mutants: Sequence[Mutant]) -> str:
    """Return why the tests that the mutants name do not all pass without a mutant, or nothing if they do."""
    names = sorted({name for mutant in mutants for name in mutant.killed_by})
    status, counts, tail = run_tests(tree, names)
    return "" if status == 0 and counts.get("passed") else tail


def judge_all(mutants: Sequence[Mutant], jobs: int) -> Iterator[Outcome]:
    """Judge mutants in `jobs` copies of the project at a time; outcomes come in the order of the mutants."""
    with tempfile.TemporaryDirectory(prefix="callgate-mutants-") as scratch:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            tree = Path(scratch) / str(number)
            copy_tree(tree)
            trees.put(tree)
        tree = trees.get()
        problem = check_tests_pass(tree, mutants)
        trees.put(tree)
        if problem:
            raise SystemExit(f"the tests must pass before mutants mean anything:\n{problem}")

        def one(mutant: Mutant) -> Outcome:
            tree = trees.get()
            try:
                return judge(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, mutants)


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


def part(text: str) -> tuple[int, int]:
    """Return (index of the first, step) for K/N; K may be more than N, as a count of commits is."""
    first, _, step = text.partition("/")
    if not (first.isdecimal() and step.isdecimal() and int(step)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, as 2/4")
    return (int(first) - 1) % int(step), int(step)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description="Take rules out of the project one by one; a test must fail each time."
    )
    parser.add_argument("words", nargs="*", help="only mutants whose check, file or list contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: all CPUs)")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--part", type=part, default=(0, 1), metavar="K/N", help="every Nth mutant, from the Kth on")
    parser.add_argument("--table", action="store_true", help="print checks and rules as tables; run nothing")
    options = parser.parse_args(arguments)
    if options.table:
        print(table(read_lists()), end="")  # noqa: T201
        return 0
    words = [word.lower() for word in options.words]
    mutants = [
        mutant
        for mutant in read_lists()
        if not words or any(word in f"{mutant.title} {mutant.listed_in}".lower() for word in words)
    ]
    first, step = options.part
    mutants = mutants[first::step]
    if not mutants:
        parser.error("no mutant matches")
    outcomes = []
    for outcome in judge_all(mutants, max(1, options.jobs)):
        outcomes.append(outcome)
        print(f"{outcome.verdict:9}{outcome.mutant.title}", flush=True)  # noqa: T201
        if outcome.detail:
            print(f"         {outcome.detail}")  # noqa: T201
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8"
        )
    killed = sum(outcome.verdict == "killed" for outcome in outcomes)
    print(f"{killed} killed, {len(outcomes) - killed} not, of {len(outcomes)} mutants")  # noqa: T201
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
