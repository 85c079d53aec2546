"""The lists of mutants stay true while the sources change: run.py itself takes minutes, this takes none."""

from functools import cache
from pathlib import Path

import mutant_lists as lists
import pytest
from run import part

ROOT = Path(__file__).parents[2]


@cache
def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


MUTANTS = lists.read_lists()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.check)
def test_a_mutant_names_text_that_stands_once_in_its_file_and_tests_that_exist(mutant) -> None:
    assert source(mutant.file).count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert mutant.killed_by
    for test in mutant.killed_by:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in source(path), test


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.kind == "check"], ids=lambda one: one.check)
def test_a_check_is_needed_against_an_attack(mutant) -> None:
    assert any(test.startswith("tests/attacks/") for test in mutant.killed_by), (
        "an attacker of tests/attacks must succeed without it; if none is possible it is a rule: tests/mutants/rules"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "`kind` must be one of check, rule"),
        ('kind = "wish"\n', "`kind` must be one of check, rule"),
        ('kind = "rule"\n', "a list of rules has a `reason`"),
        ('kind = "check"\nreason = "none"\n', "a list of checks has none"),
    ],
)
def test_a_list_of_mutants_says_whether_it_holds_checks_or_rules(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "some.toml").write_text(content + "mutant = []\n")
    with pytest.raises(ValueError, match=problem):
        lists.read_lists(tmp_path)


def test_the_parts_of_the_list_of_mutants_add_up_to_the_whole() -> None:
    slices = [part(f"{number}/4") for number in range(1, 5)]
    assert sorted(index for first, step in slices for index in range(100)[first::step]) == list(range(100))
    assert part("7/4") == part("3/4")


def test_no_two_mutants_make_the_same_change() -> None:
    changes = [(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS]
    assert len(set(changes)) == len(changes)


def test_the_table_of_the_security_document_is_the_list_of_mutants(request: pytest.FixtureRequest) -> None:
    document = ROOT / "docs" / "security.md"
    before, begin, rest = document.read_text(encoding="utf-8").partition("<!-- checks -->\n")
    _, end, after = rest.partition("<!-- end of checks -->")
    assert begin
    assert end
    wanted = f"{before}{begin}{lists.table(MUTANTS)}{end}{after}"
    if request.config.getoption("--refresh-transcripts"):
        document.write_text(wanted, encoding="utf-8")
    assert document.read_text(encoding="utf-8") == wanted, "pytest --refresh-transcripts tests/mutants"
