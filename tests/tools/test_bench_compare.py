"""`callgate bench --compare`: figures against those of an earlier run."""

import json
from pathlib import Path
from typing import Any

import pytest
from callgate.tools.bench import catalogue, comparing
from callgate.tools.bench.comparing import Difference
from callgate.tools.bench.measuring import BenchmarkError
from callgate.tools.cli.main import cli
from click.testing import CliRunner

Results = list[dict[str, Any]]


def element(name: str, total: int, handoffs: float, median: float, **more: Any) -> dict[str, Any]:
    wall = {"median": median, "min": median / 2, "max": median * 2, "rounds": 3}
    counts = {"guest_instructions": {"total": total, "ring0": 7}, "host_calls": {"handoff": handoffs}}
    return {"name": name, "n": 10, **counts, "wall_us": wall, **more}


BEFORE = [element("ipc-null", 301, 2, 40.0, ratio_to_host_call=20.0), element("boot", 606, 9, 16.0)]
NOW = [element("ipc-null", 200, 0, 20.0, ratio_to_host_call=8.0, n=500), element("new", 1, 1, 1.0)]


def test_counts_that_changed_stand_apart_from_times_and_those_that_did_not_are_counted() -> None:
    comparison = comparing.compare(BEFORE, NOW)
    assert comparison.counts == [
        Difference("ipc-null", "guest_instructions.total", 301, 200),
        Difference("ipc-null", "host_calls.handoff", 2, 0),
    ]
    assert comparison.times == [
        Difference("ipc-null", "ratio_to_host_call", 20.0, 8.0),
        Difference("ipc-null", "wall_us.median", 40.0, 20.0),
    ]
    assert (comparison.equal, comparison.gone, comparison.new) == (1, ["boot"], ["new"])
    assert [each.ratio for each in (*comparison.counts, *comparison.times)] == [0.664, 0, 0.4, 0.5]


def test_a_count_that_one_of_the_runs_does_not_have_is_zero_there_and_has_no_ratio() -> None:
    now = [element("boot", 606, 9, 16.0, requests=3)]
    (changed,) = comparing.compare(BEFORE, now).counts
    assert changed == Difference("boot", "requests", 0, 3)
    assert changed.ratio is None


def test_the_table_names_what_changed_and_what_only_one_of_the_runs_has() -> None:
    lines = comparing.render(comparing.compare(BEFORE, NOW)).splitlines()
    assert lines[0] == "counts, which are the same on every host: 1 as before, 2 changed"
    assert lines[2].split() == ["ipc-null", "guest_instructions.total", "301", "200", "0.664"]
    assert lines[-3:] == ["only in the earlier run: boot", "", "only in this run: new"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have `bench ipc` measure NOW; the list has the rounds of each measurement."""
    asked: list[int] = []

    def measure(rounds: int) -> Results:
        asked.append(rounds)
        return NOW

    monkeypatch.setitem(catalogue.BENCHMARKS, "ipc", measure)
    return asked


def compared(file: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["bench", "ipc", "--compare", str(file), *options])
    return result.exit_code, result.output


def test_the_command_prints_the_comparison_as_a_table_or_as_json(measured: list[int], tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    file.write_text(json.dumps(BEFORE))
    comparison = comparing.compare(BEFORE, NOW)
    assert compared(file) == (0, comparing.render(comparison) + "\n")
    code, output = compared(file, "--json")
    assert (code, json.loads(output)) == (0, comparing.as_json(comparison))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ("", "is not JSON"),
        ('{"name": "ipc-null"}', "is not what `callgate bench NAME --json` writes"),
        ("[1]", "is not what `callgate bench NAME --json` writes"),
        ('[{"name": "clock", "n": 1}]', "has none of ipc-null, new: it measured clock"),
    ],
)
def test_a_file_that_is_no_earlier_run_is_refused_with_its_fault(
    measured: list[int], tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "before.json"
    if content is not None:
        file.write_text(content)
    code, output = compared(file)
    assert code != 0
    assert output.startswith("Error: ")
    assert message in output
    assert "Traceback" not in output
    assert (measured == []) == ("none of" not in message), "a wrong file is refused before anything is measured"


def test_a_file_of_other_bytes_than_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    file.write_bytes(b"\xff\xfe\0")
    with pytest.raises(BenchmarkError, match="is not JSON"):
        comparing.read_results(file)
