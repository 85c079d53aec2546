"""Switch the kernel's conditions off one by one, and see which test notices.

    python tests/mutants/search.py              try the list conditions/noticed.toml: each test must fail
    python tests/mutants/search.py cache lock   those whose file, function or text contains a word
    python tests/mutants/search.py --find       look for a test for each condition that nothing accounts for yet, and
                                                add what is found to the list; the rest is printed

`conditions.py` says what a condition is, and lists those that nothing accounts for.  The exit code is 0 if every
condition was noticed.  All of the list takes 200 s of CPU time, two minutes on two CPUs; `--find` also runs those of
`SEARCHED` once, to see which conditions hold in them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conditions import NOTICED, Condition, account, read_noticed
from run import ROOT

SEARCHED = ("tests/attacks", "tests/units", "tests/kernel")  # in the order in which their tests are tried
MOST_TESTS = 40  # that are tried of each of them
INTERRUPTED = 2  # pytest's exit code from which on nothing was run

Task = dict[str, Any]


def switch(task: Task, tests: Iterable[str]) -> list[Task]:
    """Run pytest with the plugin; return the lines that it has written.  SystemExit if it could not collect."""
    with tempfile.TemporaryDirectory(prefix="callgate-search-") as folder:
        asked, to = Path(folder) / "asked.json", Path(folder) / "results.jsonl"
        asked.write_text(json.dumps(task | {"to": str(to)}), encoding="utf-8")
        search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"SWITCHING": str(asked), "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-q", "-n", "0", "--timeout=300", "--assert=plain", "-p", "no:cacheprovider", "-p", "switching"]
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


def candidates(watched: Iterable[Task]) -> dict[str, list[str]]:
    """Return, for each condition, the tests in which it holds: attacks first, the quickest first."""
    tests: dict[str, list[tuple[int, float, str]]] = {}
    for line in watched:
        group = next(index for index, folder in enumerate(SEARCHED) if line["test"].startswith(folder))
        for condition in line["true"]:
            tests.setdefault(condition, []).append((group, line["seconds"], line["test"]))
    return {condition: few(sorted(found)) for condition, found in tests.items()}


def few(found: Sequence[tuple[int, float, str]]) -> list[str]:
    """Take the quickest tests of each folder."""
    folders = [[test for group, _, test in found if group == index] for index in range(len(SEARCHED))]
    return [test for tests in folders for test in tests[:MOST_TESTS]]


def find(jobs: int) -> int:
    """Look for tests of the conditions that nothing accounts for; return how many have none."""
    state = account()
    missing = state.missing
    tests = candidates(switch({"watch": True}, SEARCHED)) if missing else {}
    tasks = [{"file": one.file, "name": one.name, "tests": tests.get(f"{one.file} {one.name}", [])} for one in missing]
    noticed, left = read_noticed(), 0
    for result in attempt([task for task in tasks if task["tests"]], jobs):
        if result.get("failed"):
            noticed.setdefault(result["file"], {})[result["name"]] = result["failed"]
        else:
            left += 1
            print(f"survived: {result['file']}: {result['name']}")  # noqa: T201
    for task in tasks:
        if not task["tests"]:
            left += 1
            print(f"never true: {task['file']}: {task['name']}")  # noqa: T201
    write(noticed, state.conditions)
    return left


def write(noticed: dict[str, dict[str, str]], there: Iterable[Condition]) -> None:
    """Write the list of what is noticed of the conditions that are there, in their order."""
    lines = ["# Made by search.py: a test that fails when the condition is switched off.\n"]
    file = ""
    for condition in there:
        test = noticed.get(condition.file, {}).get(condition.name)
        if test is None:
            continue
        if condition.file != file:
            file = condition.file
            lines.append(f'\n["{file}"]\n')
        lines.append(f"{json.dumps(condition.name)} = {json.dumps(test)}\n")
    NOTICED.write_text("".join(lines), encoding="utf-8")


def verify(words: Sequence[str], jobs: int) -> int:
    """Try each condition of the list with the test that it names; return how many tests did not fail."""
    tasks = [
        {"file": file, "name": name, "tests": [test]}
        for file, conditions in read_noticed().items()
        for name, test in conditions.items()
        if not words or any(word.lower() in f"{file} {name}".lower() for word in words)
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
    parser = argparse.ArgumentParser(description="Switch conditions of the kernel off; a test must fail each time.")
    parser.add_argument("words", nargs="*", help="only conditions whose file, function or text contains one of these")
    parser.add_argument("--find", action="store_true", help="look for tests of conditions that nothing accounts for")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: all CPUs)")
    options = parser.parse_args(arguments)
    jobs = max(1, options.jobs)
    return 1 if (find(jobs) if options.find else verify(options.words, jobs)) else 0


if __name__ == "__main__":
    sys.exit(main())
