"""Programs of a stress tool in child processes, so that a crash of the engine is a result, and names the programs.

A child runs some programs of consecutive seeds and prints as JSON how much of what it has compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

EVERY = 5.0  # seconds between two lines of progress
INTERRUPTED = 130  # exit status after Ctrl-C


def add_arguments(parser: argparse.ArgumentParser, programs: int) -> None:
    """Add the options of all such tools; `programs` is how many there are by default."""
    parser.add_argument("--programs", type=count, default=programs, help=f"how many (default {programs})")
    parser.add_argument("--seconds", type=float, help="begin no more programs after this many seconds")
    parser.add_argument("--seed", type=int, default=1, help="the first program's seed (default 1)")
    parser.add_argument("--jobs", type=count, default=1, help="child processes at a time (default 1)")
    parser.add_argument("--here", action="store_true", help="run them in this process, and print counts as JSON")


def count(text: str) -> int:
    """Return a number from 1 on: nothing compared is no result."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number from 1 on")
    return number


class Children:
    """What the children of one tool have done so far."""

    def __init__(self, module: str, arguments: list[str], size: int) -> None:
        """Take the tool's module and its own options; a child runs `size` programs."""
        self.command = [sys.executable, "-X", "faulthandler", "-m", module, "--here", *arguments]
        self.size = size
        self.done = 0
        self.counts: Counter[str] = Counter()
        self.lock = Lock()

    @property
    def so_far(self) -> str:
        """Return a phrase with the numbers of programs and of all that has been compared."""
        parts = [f"{number:,} {name}" for name, number in {"programs": self.done, **self.counts}.items()]
        return ", ".join(parts)

    def run(self, options: argparse.Namespace, same: str) -> int:
        """Run programs as the options say; return the tool's exit status.  `same` is said where nothing differed."""
        begun = told = time.monotonic()
        given = 0
        pending: deque[Future[bool]] = deque()
        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                while True:
                    now = time.monotonic()
                    late = options.seconds is not None and now - begun >= options.seconds
                    while not late and given < options.programs and len(pending) < options.jobs:
                        size = min(self.size, options.programs - given)
                        pending.append(pool.submit(self._some, options.seed + given, size))
                        given += size
                    if not pending:
                        break
                    if now - told >= EVERY:
                        told = now
                        print(f"{self.so_far}, {now - begun:.0f} s", file=sys.stderr, flush=True)
                    if not pending.popleft().result():
                        return 1
            except KeyboardInterrupt:
                print(f"interrupted after {self.so_far}: no difference and no crash up to there")
                return INTERRUPTED
        print(f"{self.so_far} from seed {options.seed}: {same}; no difference and no crash")
        return 0

    def _some(self, seed: int, programs: int) -> bool:
        command = [*self.command, "--seed", str(seed), "--programs", str(programs)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if run.returncode == -signal.SIGINT:  # as this process
            return False
        if run.returncode:
            print(f"programs {seed} to {seed + programs - 1} ended with {run.returncode}: {run.stderr[-3000:]}")
            return False
        with self.lock:
            self.done += programs
            self.counts.update(json.loads(run.stdout))
        return True
