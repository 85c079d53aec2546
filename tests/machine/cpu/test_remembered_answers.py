"""Answers that one process keeps for the next, so that it need not import the library that gives them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.common.checked_files import write_checked
from callgate.kernel.common.remembered import MOST, Remembered, fingerprint


def never() -> Any:
    raise AssertionError("this answer is known")


def test_an_answer_is_found_once_for_each_function_code_and_number() -> None:
    known = Remembered()
    questions = [("size", b"\x90", 1), ("size", b"\x90", 2), ("size", b"\xc3", 1), ("places", b"\x90", 1)]
    for index, question in enumerate(questions):
        assert known.ask(*question, lambda index=index: [index]) == [index]
    assert [known.ask(*question, never) for question in questions] == [[0], [1], [2], [3]]


def test_answers_that_are_written_are_known_to_the_process_that_reads_them(tmp_path: Path) -> None:
    first, second = Remembered(), Remembered()
    first.ask("size", b"\x90", 1, lambda: [1, 2])
    first.write(tmp_path / "answers")
    second.read(tmp_path / "answers")
    assert second.ask("size", b"\x90", 1, never) == [1, 2]


def test_a_file_is_written_only_if_something_new_has_been_asked(tmp_path: Path) -> None:
    known = Remembered()
    known.write(tmp_path / "answers")
    assert not (tmp_path / "answers").exists()
    known.ask("size", b"\x90", 1, lambda: 1)
    known.write(tmp_path / "answers")
    known.read(tmp_path / "answers")
    (tmp_path / "answers").unlink()
    known.ask("size", b"\x90", 1, never)
    known.write(tmp_path / "answers")
    assert not (tmp_path / "answers").exists()


def test_a_damaged_file_of_answers_is_as_good_as_none(tmp_path: Path) -> None:
    path, known = tmp_path / "answers", Remembered()
    write_checked(path, json.dumps({"size 1 x": 1}).encode())
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    known.read(path)
    known.read(tmp_path / "there is none")
    assert known.answers == {}


def fill(known: Remembered, name: str) -> None:
    for number in range(MOST + 10):
        assert known.ask(name, b"", number, lambda number=number: number) == number


def test_code_that_changes_all_the_time_does_not_fill_memory() -> None:
    known = Remembered()
    fill(known, "size")
    assert len(known.answers) == len(known.asked) == MOST
    assert known.ask("size", b"", MOST + 9, never) == MOST + 9
    assert known.ask("size", b"", 0, lambda: "forgotten") == "forgotten"


def test_a_file_that_is_full_takes_new_answers_for_those_of_the_oldest_questions(tmp_path: Path) -> None:
    path, first, second, third = tmp_path / "answers", Remembered(), Remembered(), Remembered()
    fill(first, "size")
    first.write(path)
    second.read(path)
    assert second.ask("size", b"", 10, never) == 10  # the oldest that is left; now it is the newest but one
    second.ask("places", b"", 1, lambda: [1])
    second.write(path)
    third.read(path)
    assert len(third.answers) == MOST
    assert third.ask("places", b"", 1, never) == [1]
    assert third.ask("size", b"", 10, never) == 10
    assert third.ask("size", b"", 11, lambda: "forgotten") == "forgotten"


def test_an_answer_that_a_file_with_too_many_loses_is_written_again(tmp_path: Path) -> None:
    path, known, next_one = tmp_path / "answers", Remembered(), Remembered()
    known.ask("size", b"", 1, lambda: 1)
    (question,) = known.answers
    write_checked(path, json.dumps({question: 1, **{f"other {number}": 0 for number in range(MOST)}}).encode())
    known = Remembered()
    known.read(path)
    known.ask("size", b"", 1, lambda: 1)
    known.write(path)
    next_one.read(path)
    assert next_one.ask("size", b"", 1, never) == 1


def test_two_processes_that_write_one_file_lose_no_answer_of_the_other(tmp_path: Path) -> None:
    path, first, second, third = tmp_path / "answers", Remembered(), Remembered(), Remembered()
    for known in (first, second):
        known.read(path)
    first.ask("size", b"", 1, lambda: 1)
    second.ask("size", b"", 2, lambda: 2)
    for known in (first, second):
        known.write(path)
    third.read(path)
    assert [third.ask("size", b"", number, never) for number in (1, 2)] == [1, 2]


def test_a_session_writes_only_what_was_asked_within_it(tmp_path: Path) -> None:
    known, next_one = Remembered(), Remembered()
    known.ask("size", b"", 1, lambda: 1)
    known.read(tmp_path / "answers")
    known.ask("size", b"", 2, lambda: 2)
    known.write(tmp_path / "answers")
    next_one.read(tmp_path / "answers")
    assert list(next_one.answers.values()) == [2]


@pytest.mark.parametrize("changed", ["library", "package", "source", "new source"])
def test_answers_of_another_library_or_of_other_sources_have_another_name(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, source = tmp_path / "decoder_of_a_test", tmp_path / "asks.py"
    (package / "lib").mkdir(parents=True)
    library = package / "lib" / "libdecoder.so.5"
    for path in (package / "__init__.py", library, source):
        path.write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = fingerprint(package.name, [source])
    assert before == fingerprint(package.name, [source])
    sources = [source]
    if changed == "new source":
        sources.append(tmp_path / "more.py")
    path = {"library": library, "package": package / "__init__.py", "source": source}.get(changed, sources[-1])
    path.write_text("22")
    assert fingerprint(package.name, sources) != before
    assert package.name not in sys.modules


def test_a_package_without_a_library_of_its_own_has_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "decoder_of_the_system"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fingerprint(package.name, []) is None
    assert fingerprint("a_package_that_is_not_installed", []) is None
