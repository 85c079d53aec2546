"""The scripts of continuous integration choose tests that exist: a name that was changed would choose none."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.test_sizes import ROOT

SCRIPTS = [ROOT / ".ci" / name for name in ("run", "more")]
KEYWORDS = re.compile(r"-k (?:\"([^\"]*)\"|(\w+))")


def chosen(script: str) -> Iterator[str]:
    """Yield the names that `-k` of a script looks for in names of tests; not the ids of parameters beside them."""
    for quoted, bare in KEYWORDS.findall(script):
        yield from (word for word in re.findall(r"\w+", quoted or bare) if "_" in word and word.lower() == word)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_test_and_file_that_a_script_names_exists(script: Path) -> None:
    text = script.read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = "\n".join(re.findall(r"def (test_\w+)", tests))
    assert [word for word in chosen(text) if word not in names] == []
    assert [path for path in re.findall(r"\btests/[\w/.*]+", text) if not list(ROOT.glob(path))] == []


def test_a_name_that_no_test_has_is_found() -> None:
    assert list(chosen('pytest -k "not (killed_at and (open or EXIT))"; pytest -k any_instant')) == [
        "killed_at",
        "any_instant",
    ]
