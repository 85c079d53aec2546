"""Mutants of a small project: the process that has collected its tests and pytest of their own agree on each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import switching
from copies import Collected
from forking import OUT_OF_CPU, Ended, Limits, chosen
from mutant_lists import Mutant
from run import Place

BOXES = """
import time
LIMIT = 3
def table():
    return [1, 2]
TABLE = table()
def limit():
    return LIMIT
def unused():
    return 1
def ready():
    return True
"""
TESTS = """
import os
import signal
from pathlib import Path
import boxes
import pytest
EARLY = Path("early.txt").read_text()
@pytest.fixture
def box():
    assert boxes.ready()
def test_the_limit():
    assert boxes.limit() == boxes.LIMIT == 3
def test_the_table():
    assert boxes.TABLE == [1, 2]
def test_a_box(box):
    pass
@pytest.mark.parametrize("file", ["early", "late"])
def test_a_text(file):
    assert (EARLY if file == "early" else Path("late.txt").read_text()) == file
"""
ENDLESS = "def limit():\n    while True: pass\n"
SIGNAL = "def limit():\n    import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n"
GONE = "def limit():\n    import os; os._exit(0)\n"
LIMIT = "def limit():\n"
CASES = {
    "a body": ("boxes.py", "return LIMIT", "return LIMIT + 1", "test_the_limit", "killed", ""),
    "not tested": ("boxes.py", "return 1\n", "return 2\n", "test_the_limit", "survived", ""),
    "constant": ("boxes.py", "LIMIT = 3", "LIMIT = 4", "test_the_limit", "killed", "does something else"),
    "called by the import": ("boxes.py", "[1, 2]", "[1]", "test_the_table", "killed", "table has been called"),
    "fixture": ("boxes.py", "return True", "return False", "test_a_box", "error", ""),
    "no Python": ("boxes.py", "LIMIT = 3", "LIMIT ==", "test_the_limit", "error", "it is no Python"),
    "signal": ("boxes.py", LIMIT, SIGNAL, "test_the_limit", "killed", ""),
    "no report": ("boxes.py", LIMIT, GONE, "test_the_limit", "error", ""),
    "read by a test": ("late.txt", "late", "other", "test_a_text", "killed", ""),
    "read before": ("early.txt", "early", "other", "test_a_text[early]", "killed", "early.txt has been read"),
    "not collected": ("boxes.py", "return LIMIT", "return 4", "test_nothing", "error", "have not been collected"),
    "not there": ("boxes.py", "return 9", "return 4", "test_the_limit", "error", ""),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project."""
    tree = tmp_path_factory.mktemp("project")
    (tree / "boxes.py").write_text(BOXES)
    (tree / "test_boxes.py").write_text(TESTS)
    (tree / "early.txt").write_text("early")
    (tree / "late.txt").write_text("late")
    return tree


@pytest.fixture(scope="module")
def collected(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    process = Collected(tree, ["test_boxes.py"], tmp_path_factory.mktemp("scratch"))
    yield Place(tree, process)
    process.close()


def mutant(case: str) -> Mutant:
    file, old, new, test, *_ = CASES[case]
    return Mutant(case, file, old, new, (f"test_boxes.py::{test}",), "here")


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("case", CASES)
def test_a_mutant_has_the_same_verdict_in_a_forked_process_as_in_pytest_of_its_own(
    tree: Path, collected: Place, case: str
) -> None:
    *_, verdict, why = CASES[case]
    forked, own = collected.judge(mutant(case)), Place(tree).judge(mutant(case))
    assert (forked.verdict, own.verdict) == (verdict, verdict)
    assert why in forked.alone
    assert bool(why) == bool(forked.alone)
    assert (tree / "boxes.py").read_text() == BOXES


def test_names_choose_tests_as_on_a_command_line_and_each_test_once() -> None:
    names = ["a.py::f[1]", "a.py::f[2]", "a.py::ff", "b.py::g"]
    items = [type("Item", (), {"nodeid": name})() for name in names]
    found = chosen(items, ["b.py", "a.py::f", "a.py::f[1]"])
    assert [item.nodeid for item in found] == ["b.py::g", "a.py::f[1]", "a.py::f[2]"]


@pytest.mark.thorough(only=True)
def test_a_test_that_computes_for_ever_is_ended_and_kills_the_mutant(tree: Path, collected: Place) -> None:
    endless = Mutant("endless", "boxes.py", LIMIT, ENDLESS, ("test_boxes.py::test_the_limit",), "here")
    assert collected.judge(endless, cpu=1).verdict == "killed"


@pytest.mark.thorough(only=True)
def test_a_change_is_gone_with_the_process_that_had_it(collected: Place) -> None:
    body, unused = (collected.judge(mutant(case)).verdict for case in ("a body", "not tested"))
    assert (body, unused) == ("killed", "survived")


@pytest.mark.thorough(only=True)
def test_tests_that_cannot_be_collected_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_wrong.py").write_text("import nothing_of_this_name\n")
    process = Collected(tmp_path, ["test_wrong.py"], tmp_path)
    with pytest.raises(SystemExit, match="nothing_of_this_name"):
        process.ask(["test_wrong.py::test_x"])
    process.close()


# How much CPU time a test has in which a condition is switched: little at first, ten times its own if it needs it.

ASKED = {"file": "kernel/a.py", "name": "f: x"}
TEST = type("Item", (), {"nodeid": "tests/a.py::test_a"})()
Trial = Callable[..., tuple[dict[str, str], int]]


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trial:
    """Try a condition; its processes end as is said, in this order.  Return the result, and how many there were."""

    def run(*ends: Ended, **task: int) -> tuple[dict[str, str], int]:
        left: Iterator[Ended] = iter(ends)

        def fork(_work: object, _path: Path, _limits: Limits) -> Ended:
            return next(left)

        monkeypatch.setattr(switching, "fork", fork)
        made = object.__new__(switching.Try)
        made.to = tmp_path / "results"
        return made._fork(ASKED | task, [TEST]), len(ends) - len(list(left))  # type: ignore[list-item]

    return run


def stopped(seconds: float) -> Ended:
    return Ended({"running": TEST.nodeid}, OUT_OF_CPU, seconds)


FAILED = {"failed": TEST.nodeid, "how": "assert"}


def test_a_test_that_fails_at_once_has_one_process(trial: Trial) -> None:
    assert trial(Ended(FAILED, 0, 0.1)) == (FAILED, 1)


def test_a_test_that_takes_ten_times_as_long_as_without_a_change_has_noticed(trial: Trial) -> None:
    result, processes = trial(stopped(1.5), Ended({}, 0, 0.14))
    assert (result["failed"], processes) == (TEST.nodeid, 2)


def test_a_slow_test_has_ten_times_its_own_time_and_has_not_noticed_if_it_passes_then(trial: Trial) -> None:
    assert trial(stopped(1.5), Ended({}, 0, 0.4), Ended({}, 0, 3.9)) == ({}, 3)


def test_a_slow_test_that_does_not_end_in_ten_times_its_own_time_has_noticed(trial: Trial) -> None:
    result, processes = trial(stopped(1.5), Ended({}, 0, 0.4), stopped(4))
    assert (result["failed"], processes) == (TEST.nodeid, 3)


def test_a_test_that_fails_without_a_change_too_proves_nothing(trial: Trial) -> None:
    result, processes = trial(stopped(1.5), Ended(FAILED, 0, 0.2))
    assert "failed" not in result
    assert (result["error"], processes) == ("its test does not pass when nothing is switched", 2)


def test_a_search_gives_a_test_the_time_that_it_says_and_no_more(trial: Trial) -> None:
    result, processes = trial(stopped(3), cpu=3)
    assert (result["failed"], processes) == (TEST.nodeid, 1)
