"""Tests a second: pytest itself, run on generated files, one process a round.

Each round has all kinds of tests, which take turns of `TURN` tests, so that what slows the host down for a while slows
all of them.  A turn is compared with the one of empty tests in the same lap; the order is reversed in every other lap
and begins with another kind in each round.  Times are CPU time with a share of collecting: the cost of a file of few
tests, imports included, cancels out.  Medians leave out the turns in which Python happens to look for all garbage,
which takes tens of milliseconds.

`test-empty` is pytest's own share, which every test has.  What no plugin can be faster than is measured as well:
`test-fixture` asks for a fixture that does nothing, `test-session-fixture` for one that asks for another one, of the
session, as `booted` does; `test-item` is a test that is no Python function, and does nothing.  Of the plugins that
happen to be installed only callgate's is loaded, for the others would be measured too, and this module as another one.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from callgate.tools.bench.measuring import BenchmarkError, timing

LAPS: Final = 20
TURN: Final = 25  # tests
FEW: Final = 5  # tests in the files that come first: one to import and assemble for, one to compare with
PLUGINS: Final = ("callgate.tools.asmtest.plugin", "callgate.tools.bench.plugin_speed")
OUTPUT: Final = "CALLGATE_TURNS"  # variable of the environment: the file that the figures are written to

EMPTY: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing({fixture}number):
    assert number >= 0
"""
FLOORS: Final = """
import pytest

@pytest.fixture
def nothing():
    return 1

@pytest.fixture(scope="session")
def nothing_once():
    return 1

@pytest.fixture
def nothing_of_the_session(nothing_once):
    yield 1

class Items(pytest.File):
    def collect(self):
        return [Item.from_parent(self, name=line) for line in self.path.read_text().split()]

class Item(pytest.Item):
    def runtest(self):
        pass
    def reportinfo(self):
        return self.path, 0, self.name

def pytest_collect_file(file_path, parent):
    return Items.from_parent(parent, path=file_path) if file_path.suffix == ".items" else None
"""
BARE: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_double(bare_cpu, number):
    bare_cpu.load("double:\\n add eax, eax\\n ret\\n")
    assert bare_cpu.call("double", eax=number).eax == 2 * number
"""
BOOTED: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_restored(booted, number):
    assert booted.output == b""
"""
CASE: Final = """
;@ case {number} is doubled
;@   set     eax = {number}
;@   call    double
;@   expect  eax = {double}
"""
ROUTINE: Final = "double: add eax, eax\n ret\n"


class Cost(NamedTuple):
    """What a test of one kind took in one round, in seconds of CPU time."""

    laps: list[float]
    collecting: float


def cases(count: int) -> str:
    """Return a source with `count` cases."""
    return ROUTINE + "".join(CASE.format(number=number, double=2 * number) for number in range(count))


def sources(count: int) -> dict[str, tuple[str, str]]:
    """Return by benchmark the suffix and the text of a file with `count` tests."""
    return {
        "test-empty": (".py", EMPTY.format(count=count, fixture="")),
        "test-fixture": (".py", EMPTY.format(count=count, fixture="nothing, ")),
        "test-session-fixture": (".py", EMPTY.format(count=count, fixture="nothing_of_the_session, ")),
        "test-item": (".items", "\n".join(map(str, range(count)))),
        "test-bare-empty": (".py", EMPTY.format(count=count, fixture="bare_cpu, ")),
        "test-bare-cpu": (".py", BARE.format(count=count)),
        "test-asm-case": (".asm", cases(count)),
        "test-booted": (".py", BOOTED.format(count=count)),
    }


# Within the pytest that is measured.


class Turns:
    """The times of the tests of one process."""

    def __init__(self) -> None:
        self.collecting: dict[str, float] = {}  # by file
        self.begin: dict[str, str] = {}  # the kind of a turn by its first test
        self.marks: list[tuple[str, float]] = []  # the kind of a turn, and when it begins

    def results(self) -> dict[str, Any]:
        """Return the time of a test by kind and lap, and of collecting by file."""
        found: dict[str, list[float]] = defaultdict(list)
        for (kind, begin), (_, end) in pairwise(self.marks):
            found[kind].append((end - begin) / TURN)
        return {"turns": found, "collecting": self.collecting}


turns: Final = Turns()


def kind_and_part(path: Path) -> tuple[str, str]:
    """Return the benchmark that a generated file is of, and which of its files: "a" and "b" are small."""
    _, _, name, part = path.stem.split("_")
    return name, part


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Note how long collecting a file takes, with looking for garbage among its own objects and no others."""
    gc.collect()
    begin = time.process_time()
    try:
        return (yield)
    finally:
        gc.collect(1)
        if isinstance(collector, pytest.File):
            turns.collecting["_".join(kind_and_part(collector.path))] = time.process_time() - begin


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the large files in the order of turns, after the others."""
    large: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        kind, part = kind_and_part(item.path)
        if part == "c":
            large[kind].append(item)
    ordered = [item for item in items if kind_and_part(item.path)[1] != "c"]
    for lap in range(len(next(iter(large.values()))) // TURN):
        for kind in (*large,) if lap % 2 == 0 else reversed(large):
            turn = large[kind][lap * TURN : (lap + 1) * TURN]
            turns.begin[turn[0].nodeid] = kind
            ordered += turn
    items[:] = ordered


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note when a turn begins."""
    if nodeid in turns.begin:
        turns.marks.append((turns.begin[nodeid], time.process_time()))


def pytest_sessionfinish() -> None:
    """Write the times down."""
    turns.marks.append(("", time.process_time()))
    Path(os.environ[OUTPUT]).write_text(json.dumps(turns.results()), encoding="utf-8")


# Outside.


def generate(folder: Path, laps: int, number: int) -> None:
    """Write the tests of a round into a folder; the round's number says which kind comes first."""
    (folder / "conftest.py").write_text(FLOORS)
    for part, count in (("a", FEW), ("b", FEW), ("c", laps * TURN)):
        kinds = [*sources(count).items()]
        for place, (name, (suffix, text)) in enumerate(kinds):
            rank = (place + 3 * number) % len(kinds)
            (folder / f"test_{rank}_{name.removeprefix('test-')}_{part}{suffix}").write_text(text)


def run(laps: int, number: int) -> dict[str, Cost]:
    """Run one round in a process of its own; return the costs by benchmark.

    BenchmarkError with the output if a test fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests, output = folder / "tests", folder / "turns.json"
        tests.mkdir()
        generate(tests, laps, number)
        plugins = [word for plugin in PLUGINS for word in ("-p", plugin)]
        command = [sys.executable, "-m", "pytest", "-q", *plugins, "--rootdir", str(tests), str(tests)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", OUTPUT: str(output)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=tests)
        if done.returncode:
            raise BenchmarkError(f"the generated tests failed:\n{done.stdout}{done.stderr}")
        return costs(json.loads(output.read_text(encoding="utf-8")), laps)


def costs(found: Mapping[str, Any], laps: int) -> dict[str, Cost]:
    """Return the costs by benchmark of what a process has written down."""
    by_kind = {}
    for kind, times in found["turns"].items():
        large, small = (found["collecting"][f"{kind}_{part}"] for part in ("c", "b"))
        by_kind[f"test-{kind}"] = Cost(times, max(0.0, large - small) / (laps * TURN - FEW))
    return by_kind


def ratios(rounds: list[dict[str, Cost]], name: str, collecting: Mapping[str, float]) -> Iterator[float]:
    """Yield the rate of tests of a kind to that of empty ones, for each lap of each round."""
    for costs_of in rounds:
        for empty, other in zip(costs_of["test-empty"].laps, costs_of[name].laps, strict=True):
            yield (empty + collecting["test-empty"]) / (other + collecting[name])


def bench_tests(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench tests`."""
    found = [run(LAPS, number) for number in range(rounds)]
    collecting = {name: statistics.median(each[name].collecting for each in found) for name in sources(0)}
    results = []
    for name in sources(0):
        cpu = timing([statistics.median(each[name].laps) + collecting[name] for each in found], 1)
        results.append(
            {
                "name": name,
                "n": LAPS * TURN,
                "cpu_us": cpu,
                "collecting_us": 1e6 * collecting[name],
                "per_second": round(1e6 / cpu["median"]),
                "ratio_to_empty": round(statistics.median(ratios(found, name, collecting)), 2),
            }
        )
    return results
