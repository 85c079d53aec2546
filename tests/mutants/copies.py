"""Copies of the project in which tests run with one file changed: in pytest of their own, or forked from one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mutant_lists import ROOT

TIME_LIMIT = 600  # seconds for the tests of one mutant
INTERNAL_ERROR = 3  # pytest's exit code
SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
# A plain assert: comparing two files of some 100 KiB line by line, as pytest does for people, takes minutes.  A plain
# traceback: pytest's own parses each file in it, which takes longer than most tests.
OPTIONS = ("-q", "--assert=plain", "--tb=native", "-p", "no:cacheprovider")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the tests of one mutant: how many did what, the signal that ended them, and what was shown last."""

    counts: dict[str, int] = field(default_factory=dict)  # by pytest's words, in the singular
    tail: str = ""
    ended: bool = True  # by themselves, and pytest has reported them
    signal: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # of CPU time, by test, where it is known

    @property
    def verdict(self) -> str:
        """Killed if a test has failed or has ended the process; survived if they passed; else error."""
        if self.signal or (self.ended and self.counts.get("failed")):
            return "killed"
        passed = self.ended and self.counts.get("passed") and not self.counts.get("error")
        return "survived" if passed else "error"


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


def environment_of(tree: Path, *search: Path) -> dict[str, str]:
    """Return the environment in which tests of a copy run: all cases, and its own modules."""
    paths = os.pathsep.join(map(str, (tree / "build" / "ns", *search)))
    return os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "CALLGATE_THOROUGH": "1"}


def run_tests(tree: Path, tests: Iterable[str]) -> Result:
    """Run tests of a copy in pytest of their own, until one fails."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-x", *tests]
    for _ in range(2):
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment_of(tree),
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return too_slow(TIME_LIMIT)
        if done.returncode != INTERNAL_ERROR:  # a time limit may strike between a test and its report: once more
            break
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    counts = {word.rstrip("s"): int(number) for number, word in SUMMARY.findall(lines[-1])}
    status = done.returncode
    return Result(counts, "\n".join(lines[-12:]), status in (0, 1), max(0, -status))


def too_slow(seconds: int) -> Result:
    """Return the result of tests that did not end in time: they have failed."""
    return Result({"failed": 1}, f"the tests did not end within {seconds} s")


class Collected:
    """A process that has collected tests of a copy, and forks another for each mutant (`mutating.py`)."""

    def __init__(self, tree: Path, tests: Iterable[str], scratch: Path) -> None:
        self.tree = tree
        ask, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        environment = environment_of(tree, Path(__file__).parent) | {
            "MUTATING": f"{ask} {answer}",
            "MUTATING_NOTES": str(scratch / "notes.json"),
        }
        files = sorted({test.partition("::")[0] for test in tests})
        options = [*OPTIONS, "-p", "mutating", f"--basetemp={scratch / 'tests'}"]
        command = [sys.executable, "-m", "pytest", *options, *files]
        self._output = (scratch / "output.txt").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=self._output, stderr=subprocess.STDOUT, pass_fds=(ask, answer)
        )
        os.close(ask)
        os.close(answer)
        self._asked: IO[str] = os.fdopen(self._ask, "w", encoding="utf-8")
        self._answers: IO[str] = os.fdopen(self._answer, encoding="utf-8")

    def ask(self, tests: Iterable[str], file: str = "", before: str = "", cpu: int = 0) -> Result | str:
        """Run tests after a file has been changed; return why a process of their own is needed if there is no result.

        `cpu` is how many seconds of CPU time they may take, if that is known.  SystemExit if the process has ended.
        """
        task: dict[str, Any] = {"tests": list(tests), "file": file, "before": before}
        try:
            print(json.dumps(task | ({"cpu": cpu} if cpu else {})), file=self._asked, flush=True)
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            output = Path(self._output.name).read_text(encoding="utf-8")
            raise SystemExit(f"the tests could not be collected:\n{output[-4000:]}")
        found = json.loads(line)
        if "fresh" in found:
            return str(found["fresh"])
        if "slow" in found:
            return too_slow(found["slow"])
        return Result(**found)

    def close(self) -> None:
        """Have the process end."""
        self._asked.close()
        self._process.wait()
        self._answers.close()
        self._output.close()
