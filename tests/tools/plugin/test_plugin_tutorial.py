"""docs/testing.md is followed word by word: its files, its command, the failure that it shows."""

import re
import shutil
from pathlib import Path

import pytest
from plugin_runs import run_within

pytest_plugins = ["pytester"]

TUTORIAL = Path(__file__).parents[3] / "docs" / "testing.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture
def files(pytester):
    found = dict(FILE.findall(TUTORIAL.read_text(encoding="utf-8")))
    assert set(found) == {
        *("double.asm", "test_double.asm", "test_double.py", "test_booted.py", "conftest.py"),
        *("popcount.c", "test_popcount.asm", "shout.nasm", "test_shout.py"),
    }
    for name, text in found.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    return pytester


@pytest.mark.thorough(only=True)
def test_the_files_of_the_tutorial_pass(files):
    outcomes = files.runpytest_subprocess("-v", "-rs").parseoutcomes()
    passed = 7
    for program, tests in (("gcc", 4), ("nasm", 1)):
        passed += tests if shutil.which(program) else 0
    assert outcomes.get("passed") == passed
    assert outcomes.get("skipped", 0) == 12 - passed


def test_objects_of_the_tutorial_pass_or_skip_by_name(files):
    (files.path / "test_booted.py").unlink()
    result = run_within(files, "-rs", "test_popcount.asm", "test_shout.py")
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) + outcomes.get("skipped", 0) == 5
    for program in ("gcc", "nasm"):
        assert (shutil.which(program) is None) == (f"{program} is not installed" in result.stdout.str())


def test_objects_of_the_tutorial_skip_by_name_where_there_is_no_compiler(files, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = run_within(files, "-rs", "test_popcount.asm", "test_shout.py")
    result.assert_outcomes(skipped=5)
    result.stdout.fnmatch_lines_random(["*gcc is not installed", "*nasm is not installed"])


@pytest.mark.thorough(only=True)
def test_a_failed_expectation_looks_as_the_tutorial_shows(files):
    source = files.path / "test_double.asm"
    source.write_text(source.read_text().replace("eax = 42", "eax = 43"))
    result = files.runpytest_subprocess("test_double.asm")
    result.assert_outcomes(passed=2, failed=1)
    shown = TUTORIAL.read_text(encoding="utf-8").split("last instructions:\n\n")[1].split("\n\n")[0]
    output = re.sub(r"\S*/", "", result.stdout.str())
    for line in shown.splitlines():
        assert " ".join(line.split()) in " ".join(output.split())
