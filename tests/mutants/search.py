"""Switch the kernel's conditions one by one, and see which test notices.

    python tests/mutants/search.py              try the lists conditions/noticed*.toml: each test must fail
    python tests/mutants/search.py cache lock   those whose file, function or text contains a word
    python tests/mutants/search.py --find       look for a test for each condition that nothing accounts for yet, and
                                                add what is found to the list; the rest is printed
    python tests/mutants/search.py --find ide --seen build/seen.jsonl
                                                the same for some; what tests do is kept in a file, or taken from it

`conditions.py` says what a condition is, and lists those that nothing accounts for.  The exit code is 0 if every
condition was noticed.  All of the list takes some four minutes of CPU time, two on two CPUs; `--find` also runs the
tests of `SEARCHED` once, to see which conditions they reach.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conditions import NOTICED, Condition, account, changes_of, read_noticed
from copies import OPTIONS
from mutant_lists import ROOT, read_lists

SEARCHED = ("tests/attacks", "tests/units", "tests/kernel", "tests/asm")
MOST_TESTS = 40  # that are tried of each group
MOST_CASES = 4  # of one function among them
TRIAL = 3  # seconds of CPU time of one test that is tried
AT_ONCE, QUICK = 0.01, 0.5  # seconds of CPU time
BATCH = 120  # conditions, after which what has been found is written
INTERRUPTED = 2  # pytest's exit code from which on nothing was run

Task = dict[str, Any]


def switch(task: Task, tests: Iterable[str]) -> list[Task]:
    """Run pytest with the plugin; return the lines that it has written.  SystemExit if it could not collect."""
    with tempfile.TemporaryDirectory(prefix="callgate-search-") as folder:
        asked, to = Path(folder) / "asked.json", Path(folder) / "results.jsonl"
        asked.write_text(json.dumps(task | {"to": str(to)}), encoding="utf-8")
        search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"SWITCHING": str(asked), "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
        options = [*OPTIONS, "-n", "0", "--timeout=300", "-p", "switching"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *sorted(set(tests))],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode >= INTERRUPTED or not to.exists():
            raise SystemExit(f"the tests could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]


def attempt(tasks: Sequence[Task], jobs: int) -> Iterator[Task]:
    """Switch the condition of each task off and run its tests, in `jobs` processes; return the results."""

    def share(number: int) -> list[Task]:
        mine = tasks[number::jobs]
        files = {test.partition("::")[0] for task in mine for test in task["tests"]}
        return switch({"try": mine}, files) if mine else []

    with ThreadPoolExecutor(jobs) as pool:
        for results in pool.map(share, range(jobs)):
            yield from results


def candidates(watched: Iterable[Task], most: int = MOST_TESTS) -> dict[str, list[str]]:
    """Return, for each condition, the tests in which switching it does something, in the order of `few`."""
    tests: dict[str, list[tuple[float, str]]] = {}
    for line in watched:
        for condition in line["true"]:
            tests.setdefault(condition, []).append((line["seconds"], line["test"]))
    return {condition: few(sorted(found), most) for condition, found in tests.items()}


def few(found: Sequence[tuple[float, str]], most: int) -> list[str]:
    """Take tests, the quickest first, with not many cases of one test: what takes no time, attacks, budgets, the rest.

    A budget also notices that the kernel does the same in another way.
    """

    def rank(one: tuple[float, str]) -> int:
        seconds, test = one
        if seconds < AT_ONCE:
            return 0
        if test.startswith("tests/attacks/") and seconds < QUICK:
            return 1
        return 2 if "budget" in test else 3

    seen: Counter[str] = Counter()
    groups: list[list[str]] = [[], [], [], []]
    for one in found:
        function = one[1].partition("[")[0]
        if seen[function] < MOST_CASES:
            seen[function] += 1
            groups[rank(one)].append(one[1])
    return [test for group in groups for test in group[:most]]


def watch(seen: Path | None, jobs: int) -> list[Task]:
    """Return what each test does to conditions; from a file if it is there, else it is written."""
    if seen is not None and seen.exists():
        return [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda folder: switch({"watch": True}, [folder]), SEARCHED)
        lines = [line for one in found for line in one]
    if seen is not None:
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return lines


def tests_of_mutants(conditions: Iterable[Condition]) -> dict[Condition, list[str]]:
    """Return, for each condition, the tests of mutants that change one of its lines."""
    changes = [(mutant, *changes_of([mutant])[mutant.file]) for mutant in read_lists()]
    return {
        one: [
            test
            for mutant, lines in changes
            if mutant.file == one.file and not lines.isdisjoint(one.lines)
            for test in mutant.killed_by
            if not test.endswith(".py")
        ]
        for one in conditions
    }


def is_asked_for(words: Sequence[str], file: str, name: str) -> bool:
    """Say whether a condition has one of the words, or there are none."""
    return not words or any(word.lower() in f"{file} {name}".lower() for word in words)


def find(words: Sequence[str], jobs: int, seen: Path | None, most: int) -> int:
    """Look for tests of the conditions that nothing accounts for; return how many have none."""
    state = account()
    missing = [one for one in state.missing if is_asked_for(words, one.file, one.name)]
    tests = candidates(watch(seen, jobs), most) if missing else {}
    first = tests_of_mutants(missing)
    tasks = [
        {
            "file": one.file,
            "name": one.name,
            "tests": list(dict.fromkeys([*first[one], *tests.get(f"{one.file} {one.name}", [])])),
            "cpu": TRIAL,
        }
        for one in missing
    ]
    left = 0
    tried = [task for task in tasks if task["tests"]]
    for start in range(0, len(tried), BATCH):
        found = []
        for result in attempt(tried[start : start + BATCH], jobs):
            if result.get("failed"):
                found.append(result)
            else:
                left += 1
                print(f"survived: {result['file']}: {result['name']} {result.get('error', '')}", flush=True)  # noqa: T201
        noticed = read_noticed()  # another search may have added something
        for result in found:
            noticed.setdefault(result["file"], {})[result["name"]] = result["failed"]
        write(noticed, state.conditions)
    for task in tasks:
        if not task["tests"]:
            left += 1
            print(f"no test does that: {task['file']}: {task['name']}")  # noqa: T201
    return left


def write(noticed: dict[str, dict[str, str]], there: Iterable[Condition]) -> None:
    """Write the lists of what is noticed of the conditions that are there, in their order."""
    conditions = list(there)
    for path, machine_code in zip(NOTICED, (False, True), strict=True):
        of_path = [one for one in conditions if one.file.startswith("asm/") == machine_code]
        path.write_text(listed(noticed, of_path), encoding="utf-8")


def listed(noticed: dict[str, dict[str, str]], there: Iterable[Condition]) -> str:
    """Return the text of a list."""
    lines = ["# Made by search.py: a test that fails when the condition is switched.\n"]
    file = ""
    for condition in there:
        test = noticed.get(condition.file, {}).get(condition.name)
        if test is None:
            continue
        if condition.file != file:
            file = condition.file
            lines.append(f'\n["{file}"]\n')
        lines.append(f"{json.dumps(condition.name)} = {json.dumps(test)}\n")
    return "".join(lines)


def verify(words: Sequence[str], jobs: int) -> int:
    """Try each condition of the list with the test that it names; return how many tests did not fail."""
    tasks = [
        {"file": file, "name": name, "tests": [test]}
        for file, conditions in read_noticed().items()
        for name, test in conditions.items()
        if is_asked_for(words, file, name)
    ]
    left = 0
    for result in attempt(tasks, jobs):
        if not result.get("failed"):
            left += 1
            why = result.get("error", "its test has passed, or is not there")
            print(f"not noticed: {result['file']}: {result['name']}: {why}")  # noqa: T201
    print(f"{len(tasks) - left} noticed, {left} not, of {len(tasks)} conditions")  # noqa: T201
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Switch conditions of the kernel; a test must fail each time.")
    parser.add_argument("words", nargs="*", help="only conditions whose file, function or text contains one of these")
    parser.add_argument("--find", action="store_true", help="look for tests of conditions that nothing accounts for")
    parser.add_argument("--seen", type=Path, help="a file that keeps what tests do, for --find")
    parser.add_argument("--tests", type=int, default=MOST_TESTS, help="how many of each folder --find tries, at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: all CPUs)")
    options = parser.parse_args(arguments)
    jobs = max(1, options.jobs)
    if options.find:
        return 1 if find(options.words, jobs, options.seen, options.tests) else 0
    return 1 if verify(options.words, jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
