"""Run tests in a process that is forked from the one that has imported and collected them.

What takes long is done once, and what a test leaves behind, or breaks, ends with its process.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NoReturn

import pytest

SLOW = -1  # the status of a process that was ended because it took longer
OUT_OF_CPU = signal.SIGPROF  # what ends a process that has used the CPU time it may use
AWAITED_GENERATOR = 0x100  # CO_ITERABLE_COROUTINE, which types.coroutine adds to a function's code

Said = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of CPU time, after which a computation does not end, and seconds on a host that does other things too."""

    cpu: float
    wall: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a forked process said last, its status (SLOW, 0, or another, as os.wait4 gives it), and its CPU time."""

    said: Said
    status: int
    seconds: float

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0: a test computes for ever (OUT_OF_CPU), or has broken the emulator."""
        return os.WTERMSIG(self.status) if self.status != SLOW and os.WIFSIGNALED(self.status) else 0


def fork(work: Callable[[Callable[[Said], None]], None], path: Path, limits: Limits) -> Ended:
    """Do `work` in a process of its own; it is given a function that says what is known so far.

    `path` is a file for that, which does not stay.
    """
    path.write_text("{}", encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        child_of(work, path, limits)
    status, seconds = wait(child, limits.wall)
    said: Said = json.loads(path.read_text(encoding="utf-8") or "{}")
    path.unlink()
    return Ended(said, status, seconds)


def child_of(work: Callable[[Callable[[Said], None]], None], path: Path, limits: Limits) -> NoReturn:
    """Do the work and end; the process must not go on as its parent's twin."""
    try:
        limit_cpu(limits.cpu)
        work(lambda said: path.write_text(json.dumps(said), encoding="utf-8") and None)
        os._exit(0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(1)


def limit_cpu(seconds: float) -> None:
    """Have this process ended (OUT_OF_CPU) when it has used these seconds of CPU time from now on.

    A program that it starts from now on is ended too, when it has used as much itself.
    """
    signal.signal(OUT_OF_CPU, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    whole = math.ceil(time.process_time() + seconds) + 1  # of this process; the timer comes first
    resource.setrlimit(resource.RLIMIT_CPU, (whole, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def wait(child: int, seconds: float) -> tuple[int, float]:
    """Return the status of a process that has ended, SLOW if it had to be ended, and the CPU time that it has used."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used.ru_utime + used.ru_stime
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    _, _, used = os.wait4(child, 0)
    return SLOW, used.ru_utime + used.ru_stime


class Reports:
    """What tests report: how many passed, failed and so on, in pytest's words, and what failed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[tuple[str, str, str]] = []  # test, phase, the end of the report
        self.seconds: dict[str, float] = {}  # of CPU time, by test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        start = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - start
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.counts["failed" if report.when == "call" else "error"] += 1
            self.failed.append((report.nodeid, report.when or "", str(report.longrepr)[-2000:]))
        elif report.skipped:
            self.counts["skipped"] += 1
        elif report.when == "call":
            self.counts["passed"] += 1


def run(items: Sequence[pytest.Item], reports: Reports | None = None) -> None:
    """Run tests as pytest's own loop does; with `reports` until one fails, as its option -x."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if reports is not None and reports.failed:
            return


def chosen(items: Iterable[pytest.Item], names: Iterable[str]) -> list[pytest.Item]:
    """Return the collected tests that a command line with these names would run, in its order."""
    collected = list(items)
    found = (item for name in names for item in collected if f"{item.nodeid}[".startswith((f"{name}[", f"{name}::")))
    return list(dict.fromkeys(found))  # an item can run once


def functions_of(paths: Iterable[Path] | None = None) -> dict[Path, list[FunctionType]]:
    """Return the functions that have been imported from each file; None: from every file."""
    gc.unfreeze()
    found: dict[Path, list[FunctionType]] = {path: [] for path in paths or ()}
    resolved: dict[str, Path] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType):
            name = one.__code__.co_filename
            if name not in resolved:
                resolved[name] = Path(name).resolve()
            if paths is None or resolved[name] in found:
                found.setdefault(resolved[name], []).append(one)
    gc.freeze()
    return found


def put_code(function: FunctionType, code: CodeType) -> None:
    """Give a function other code; it stays awaitable if it is a generator that types.coroutine has made so."""
    function.__code__ = code.replace(co_flags=code.co_flags | (function.__code__.co_flags & AWAITED_GENERATOR))


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    """Return the code of every function within other code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inner_codes(constant)


def append(path: Path, line: Said) -> None:
    """Add a line of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
