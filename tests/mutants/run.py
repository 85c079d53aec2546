"""Take one rule at a time out of a copy of the project, and see that a test fails without it.

    python tests/mutants/run.py                 all mutants
    python tests/mutants/run.py handle lock     those whose check, file or list contains a word
    python tests/mutants/run.py --jobs 2 --json build/mutants.json
    python tests/mutants/run.py --part 2/4      every fourth, from the second on
    python tests/mutants/run.py --fresh         each in pytest of its own, which takes several times the CPU time
    python tests/mutants/run.py --table         print the tables of docs/security.md

`mutant_lists.py` says what the lists hold.  A mutant is killed if one of its tests fails.  A test that cannot even
start (the kernel does not assemble, a fixture raises) proves nothing and counts as an error.  The exit code is 0 if
every mutant was killed, else 1.

A mutant's tests run in a process that is forked from one that has collected all tests.  Where that would not be the
same as a process of their own (`code_changes.py`), they have one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from copies import Collected, Result, copy_tree, run_tests
from mutant_lists import Mutant, read_lists, table

IN_MEMORY = "/dev/shm"  # noqa: S108 - a folder is made there that others cannot enter
#: Seconds of CPU time that tests may take: a few, more where assembly has to be assembled, and many times what
#: the unchanged tests took.  A loop that never ends is the usual way in which a mutant fails late.
LEAST_CPU, ASSEMBLY_CPU, MANY_TIMES = 3, 7, 10

T = TypeVar("T")
R = TypeVar("R")
Tests = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a mutant: killed, survived or error; `alone` says why its tests had a process of their own."""

    mutant: Mutant
    verdict: str
    detail: str
    alone: str = ""


class Place:
    """A copy of the project, with a process that has collected the tests, if there is to be one."""

    def __init__(self, tree: Path, collected: Collected | None = None) -> None:
        self.tree = tree
        self.collected = collected

    def run(self, tests: Tests, file: str = "", before: str = "", cpu: int = 0) -> tuple[Result, str]:
        """Run tests; return what came of them, and why they had a process of their own."""
        answer = self.collected.ask(tests, file, before, cpu) if self.collected else "asked for"
        return (run_tests(self.tree, tests), answer) if isinstance(answer, str) else (answer, "")

    def judge(self, mutant: Mutant, cpu: int = 0) -> Outcome:
        """Apply a mutant, run its tests, and put the file back."""
        try:
            before = mutant.apply(self.tree)
        except (OSError, ValueError) as error:
            return Outcome(mutant, "error", str(error))
        try:
            result, alone = self.run(mutant.killed_by, mutant.file, before, cpu)
        finally:
            (self.tree / mutant.file).write_text(before, encoding="utf-8")
        details = {"killed": "", "survived": f"{mutant.killed_by} passed", "error": result.tail}
        return Outcome(mutant, result.verdict, details[result.verdict], alone)


def judge_all(mutants: Sequence[Mutant], jobs: int, *, fresh: bool = False) -> Iterator[Outcome]:
    """Judge mutants in `jobs` copies of the project at a time; outcomes come in the order of the mutants.

    SystemExit if the tests do not pass without a mutant.
    """
    with ExitStack() as stack:
        memory = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callgate-mutants-")))
        quick = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callgate-mutants-", dir=memory)))
        tests = sorted({test for mutant in mutants for test in mutant.killed_by})
        places: SimpleQueue[Place] = SimpleQueue()
        for number in range(jobs):
            tree = scratch / str(number)
            copy_tree(tree)
            collected = None
            if not fresh:
                (quick / str(number)).mkdir()
                collected = Collected(tree, tests, quick / str(number))
                stack.callback(collected.close)
            places.put(Place(tree, collected))

        def at_a_place(work: Callable[[Place, T], R]) -> Callable[[T], R]:
            def one(item: T) -> R:
                place = places.get()
                try:
                    return work(place, item)
                finally:
                    places.put(place)

            return one

        with ThreadPoolExecutor(jobs) as pool:
            seconds: dict[str, float] = {}
            for times in pool.map(at_a_place(seconds_unchanged), shares(tests, 1 if fresh else jobs)):
                seconds |= times

            def limit(mutant: Mutant) -> int:
                known = [time for test, time in seconds.items() if test.startswith(mutant.killed_by)]
                least = LEAST_CPU if mutant.file.endswith(".py") else LEAST_CPU + ASSEMBLY_CPU
                return least + int(MANY_TIMES * sum(known))

            yield from pool.map(at_a_place(lambda place, mutant: place.judge(mutant, limit(mutant))), mutants)


def shares(tests: Sequence[str], number: int) -> list[Tests]:
    """Divide tests by their files, which may share what takes long."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    divided = [
        tuple(t for t in tests if files.index(t.partition("::")[0]) % number == index) for index in range(number)
    ]
    return [share for share in divided if share]


def seconds_unchanged(place: Place, tests: Tests) -> dict[str, float]:
    """Return the CPU time that each test takes without a mutant; SystemExit if they do not all pass."""
    result, _ = place.run(tests)
    if result.verdict != "survived":
        raise SystemExit(f"the tests must pass before mutants mean anything:\n{result.tail or tests}")
    return result.seconds


def part(text: str) -> tuple[int, int]:
    """Return (index of the first, step) for K/N; K may be more than N, as a count of commits is."""
    first, _, step = text.partition("/")
    if not (first.isdecimal() and step.isdecimal() and int(step)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, as 2/4")
    return (int(first) - 1) % int(step), int(step)


def parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    made = argparse.ArgumentParser(description="Take rules out of the project one by one; a test must fail each time.")
    made.add_argument("words", nargs="*", help="only mutants whose check, file or list contains one of these")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: all CPUs)")
    made.add_argument("--json", type=Path, help="write the outcomes to this file")
    made.add_argument("--part", type=part, default=(0, 1), metavar="K/N", help="every Nth mutant, from the Kth on")
    made.add_argument("--fresh", action="store_true", help="run the tests of each mutant in pytest of their own")
    made.add_argument("--table", action="store_true", help="print checks and rules as tables; run nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser().parse_args(arguments)
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
        parser().error("no mutant matches")
    outcomes = []
    for outcome in judge_all(mutants, max(1, options.jobs), fresh=options.fresh):
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
    alone = sum(bool(outcome.alone) for outcome in outcomes)
    print(f"{killed} killed, {len(outcomes) - killed} not, of {len(outcomes)} mutants")  # noqa: T201
    print(f"{alone} of them had a process of their own")  # noqa: T201
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
