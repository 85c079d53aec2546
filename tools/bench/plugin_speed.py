"""Tests a second: pytest itself, run on generated files of two sizes.

The slope between the sizes is the cost of a test; start-up and the first assembly cancel out. `test-empty` is pytest's
own share, which every test has.  What no plugin can be faster than is measured as well: `test-fixture` asks for a
fixture that does nothing, `test-item` is a test that is no Python function, and does nothing.  Of the plugins that
happen to be installed only callgate's is loaded: the others would be measured too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from callgate.tools.bench.measuring import BenchmarkError, timing

SIZES: Final = (200, 2200)
PLUGIN: Final = "callgate.tools.asmtest.plugin"

EMPTY: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing(number):
    assert number >= 0
"""
FIXTURE: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing(thing, number):
    assert number >= 0
"""
THING: Final = """
import pytest
@pytest.fixture
def thing():
    return 1
"""
ITEMS: Final = """
import pytest
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
BARE_EMPTY: Final = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing(bare_cpu, number):
    assert number >= 0
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


def cases(count: int) -> str:
    """Return a source with `count` cases."""
    return ROUTINE + "".join(CASE.format(number=number, double=2 * number) for number in range(count))


def sources(count: int) -> dict[str, dict[str, str]]:
    """Return by benchmark the texts of its files by name, with `count` tests; the first has the tests."""
    return {
        "test-empty": {"test_empty.py": EMPTY.format(count=count)},
        "test-fixture": {"test_fixture.py": FIXTURE.format(count=count), "conftest.py": THING},
        "test-item": {"numbers.items": "\n".join(map(str, range(count))), "conftest.py": ITEMS},
        "test-bare-empty": {"test_bare_empty.py": BARE_EMPTY.format(count=count)},
        "test-bare-cpu": {"test_bare.py": BARE.format(count=count)},
        "test-asm-case": {"test_cases.asm": cases(count)},
        "test-booted": {"test_booted.py": BOOTED.format(count=count)},
    }


def run(files: Mapping[str, str]) -> float:
    """Run files in a process of their own; return the seconds, BenchmarkError with its output if a test fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "--rootdir", folder, folder]
        environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        start = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
        if done.returncode:
            raise BenchmarkError(f"the generated tests of {next(iter(files))} failed:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - start


def bench_tests(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench tests`."""
    small, large = SIZES
    results: list[dict[str, Any]] = []
    for name in sources(0):
        samples = []
        for _ in range(rounds):
            spent = [run(sources(count)[name]) for count in SIZES]
            samples.append(spent[1] - spent[0])
        wall = timing(samples, large - small)
        results.append({"name": name, "n": large - small, "wall_us": wall, "per_second": round(1e6 / wall["median"])})
    for element in results:
        element["ratio_to_empty"] = round(results[0]["wall_us"]["median"] / element["wall_us"]["median"], 2)
    return results
