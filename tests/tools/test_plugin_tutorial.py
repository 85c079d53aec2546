"""docs/testing.md is followed word by word: its files, its command, the failure that it shows."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TUTORIAL = Path(__file__).parents[2] / "docs" / "testing.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture
def files(pytester):
    found = dict(FILE.findall(TUTORIAL.read_text(encoding="utf-8")))
    assert set(found) == {"double.asm", "test_double.asm", "test_double.py", "test_booted.py"}
    for name, text in found.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    return pytester


@pytest.mark.thorough(only=True)
def test_the_files_of_the_tutorial_pass(files):
    files.runpytest_subprocess("-v").assert_outcomes(passed=7)


@pytest.mark.thorough(only=True)
def test_a_wrong_expectation_looks_as_the_tutorial_says(files):
    source = files.path / "test_double.asm"
    source.write_text(source.read_text().replace("eax = 42", "eax = 43"))
    result = files.runpytest_subprocess("test_double.asm")
    result.assert_outcomes(passed=2, failed=1)
    shown = TUTORIAL.read_text(encoding="utf-8").split("last instructions:\n\n")[1].split("\n\n")[0]
    output = re.sub(r"\S*/", "", result.stdout.str())
    for line in shown.splitlines():
        assert " ".join(line.split()) in " ".join(output.split())
