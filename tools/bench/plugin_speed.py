"""Tests a second: pytest itself, run on generated files of two sizes.

The slope between the sizes is the cost of a test; start-up and the first assembly cancel out. `test-empty` is pytest's
own share, which every test has.  Of the plugins that happen to be installed only callgate's is loaded: the others would
be measured too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
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


def sources(count: int) -> dict[str, tuple[str, str]]:
    """Return by benchmark the file's name and text, with `count` tests."""
    return {
        "test-empty": ("test_empty.py", EMPTY.format(count=count)),
        "test-bare-cpu": ("test_bare.py", BARE.format(count=count)),
        "test-asm-case": ("test_cases.asm", cases(count)),
        "test-booted": ("test_booted.py", BOOTED.format(count=count)),
    }


def run(name: str, text: str) -> float:
    """Run one file in a process of its own; return the seconds, BenchmarkError with its output if a test fails."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "--rootdir", folder, folder]
        environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        start = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
        if done.returncode:
            raise BenchmarkError(f"the generated tests of {name} failed:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - start


def bench_tests(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench tests`."""
    small, large = SIZES
    results = []
    for name in sources(0):
        samples = []
        for _ in range(rounds):
            spent = [run(*sources(count)[name]) for count in SIZES]
            samples.append(spent[1] - spent[0])
        wall = timing(samples, large - small)
        results.append({"name": name, "n": large - small, "wall_us": wall, "per_second": round(1e6 / wall["median"])})
    return results
