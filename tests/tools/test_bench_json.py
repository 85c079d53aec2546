"""`callgate bench --json`: its content, and that it has been measured."""

import json
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.programs.images import program_image
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.bench import (
    catalogue,
    checksum,
    debugging,
    going_back,
    measuring,
    observing,
    plugin_speed,
    reading,
    sorting,
)
from callgate.tools.bench import ipc as ipc_bench
from callgate.tools.bench.measuring import BenchmarkError
from callgate.tools.cli.bench import ROUNDS
from callgate.tools.cli.main import cli, run
from click.testing import CliRunner

COUNTED = set(Counts().as_dict())
TIMED = {"median", "min", "max", "rounds"}


def is_timing(wall: dict[str, float], rounds: int) -> bool:
    """Whether it is made of `rounds` samples: of a clock in nanoseconds, so that no two are the same."""
    return set(wall) == TIMED and wall["rounds"] == rounds and 0 < wall["min"] < wall["median"] < wall["max"]


@pytest.mark.parametrize("fails", [False, True], ids=["to its end", "to an error"])
def test_ctrl_c_while_a_machine_runs_ends_a_benchmark_by_130_and_prints_nothing(
    bare_cpu: BareCpu, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    bare_cpu.load("spin:\n jmp spin\n")
    machine = bare_cpu.machine

    def measure(_rounds: int) -> list[dict[str, Any]]:
        machine.breakpoints.add(bare_cpu.address("spin"), lambda: bool(signal.raise_signal(signal.SIGINT)))
        machine.cpu.eip = bare_cpu.address("spin")
        reason = machine.run(fuel=1000).reason
        assert reason == "interrupted"
        if fails:
            raise BenchmarkError("the run was too short")
        return []

    monkeypatch.setitem(catalogue.BENCHMARKS, "ipc", measure)
    assert run(partial(cli.main, ["bench", "ipc"])) == 130
    assert not capsys.readouterr().out.strip()


def printed(*arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli, ["bench", *arguments, "--json"], standalone_mode=False)
    assert result.exception is None, result.output
    elements: list[dict[str, Any]] = json.loads(result.output)
    return elements


@pytest.fixture(scope="module")
def ipc() -> list[dict[str, Any]]:
    return printed("ipc", "--rounds", "3")


@pytest.mark.thorough(only=True)
def test_each_element_of_the_json_has_a_name_counts_and_a_timing_of_the_requested_rounds(
    ipc: list[dict[str, Any]],
) -> None:
    loads = ["ipc-batch32", "ipc-batch32x4", "ipc-threads32"]
    names = ["ipc-null", "ipc-null-asking", *loads, "host-call", "call-gate", "boot", "snapshot-restore"]
    assert [element["name"] for element in ipc] == names
    for element in ipc:
        assert is_timing(element["wall_us"], 3), element
        assert element["n"] >= 1
        counted = set() if element["name"] == "snapshot-restore" else COUNTED
        ratio = {"ratio_to_host_call"} if element["name"].startswith("ipc") else set()
        assert set(element) == {"name", "n", "wall_us"} | counted | ratio
    for element in ipc[:5]:
        ratio = element["wall_us"]["median"] / ipc[5]["wall_us"]["median"]
        assert element["ratio_to_host_call"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.thorough(only=True)
def test_benchmark_counts_are_the_same_in_each_run_and_times_differ(ipc: list[dict[str, Any]]) -> None:
    again = printed("ipc", "--rounds", "3")
    for first, second in zip(ipc, again, strict=True):
        assert is_timing(second["wall_us"], 3)
        assert first["wall_us"] != second["wall_us"]
        for key in COUNTED & set(first):
            assert first[key] == second[key], f"{first['name']}: {key}"
    by_name = {element["name"]: element for element in ipc}
    assert by_name["ipc-null"]["client_gates"] == by_name["ipc-null"]["requests"] == 1
    assert by_name["ipc-batch32"]["client_gates"] == pytest.approx(1, abs=0.1)
    assert by_name["ipc-batch32x4"]["client_gates"] == pytest.approx(1 / 4, abs=0.01)
    assert by_name["ipc-batch32x4"]["batched_requests"] == by_name["ipc-threads32"]["requests"] == 1
    assert by_name["host-call"]["host_calls"] == {"empty": 1}
    assert by_name["boot"]["guest_instructions"]["total"] > 500


def test_benchmark_counts_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many host calls in the loop are twice as many in the ledger: nothing is a constant."""
    once = ipc_bench.host_call(3)
    monkeypatch.setattr(ipc_bench, "HOST_CALLS", 2 * ipc_bench.HOST_CALLS)
    twice = ipc_bench.host_call(3)
    assert twice["n"] == 2 * once["n"]
    assert twice["host_calls"] == once["host_calls"] == {"empty": 1}
    assert twice["guest_instructions"]["total"] == pytest.approx(once["guest_instructions"]["total"], abs=0.01)


@pytest.mark.thorough(only=True)
def test_the_clock_is_measured_as_often_as_requested() -> None:
    clocks = printed("clock", "--rounds", "3")
    names = ["clock-native", "clock-blocks", "crc32-native", "crc32-blocks", "sort-native", "sort-blocks"]
    observed = [f"observed-{name}" for name in (*observing.LOOPS, observing.CHECKSUM)]
    assert [clock["name"] for clock in clocks] == names + observed
    for clock in clocks[:2]:
        assert is_timing(clock["wall_us"], 3)
        assert is_timing(clock["count_wall_us"], 3)
        assert clock["guest_instructions"] == 120_000_002


def test_the_sort_of_names_costs_the_same_instructions_under_each_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "NAMES", 400)
    found = [sorting.bench_sorting(kind, 3) for kind in ("native", "blocks")]
    assert found[0]["guest_instructions"] == found[1]["guest_instructions"] > 400 * 9
    assert all(is_timing(element["wall_us"], 3) for element in found)


@pytest.mark.parametrize("name", [*observing.LOOPS, observing.CHECKSUM])
def test_a_loop_over_file_data_is_compared_with_the_same_over_memory_that_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(observing, "BYTES", 4 << 20)
    found = observing.bench_observing(name, 3)
    assert found["file_bytes_counted"] == 4 << 20, "all loads are aligned"
    assert found["guest_instructions"] > (4 << 20) // 4
    assert is_timing(found["wall_us"], 3)
    assert is_timing(found["plain_wall_us"], 3)


def test_tests_are_measured_as_often_as_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def run(laps: int, number: int) -> dict[str, plugin_speed.Cost]:
        ran.append(number)
        slower = 1.1**number  # the host, for a whole round
        names = enumerate(plugin_speed.sources(0))
        return {name: plugin_speed.Cost([slower * (place + 1)] * (laps - 1) + [99], 1) for place, name in names}

    monkeypatch.setattr(plugin_speed, "run", run)
    elements = printed("tests", "--rounds", "4")
    assert ran == [0, 1, 2, 3]
    assert all(is_timing(element["cpu_us"], 4) for element in elements)
    assert [element["ratio_to_empty"] for element in elements] == pytest.approx(
        [2 / (place + 2) for place in range(len(elements))], abs=0.03
    )


def test_a_round_notes_the_cost_of_each_lap_and_of_collecting_what_a_large_file_has_more() -> None:
    turns = plugin_speed.Turns()
    turns.marks = [("empty", 0.0), ("item", 50.0), ("item", 75.0), ("empty", 175.0), ("", 250.0)]
    turns.collecting = {"empty_b": 3.0, "empty_c": 93.0, "item_b": 3.0, "item_c": 2.0}
    found = plugin_speed.costs(turns.results(), laps=2)
    assert found == {"test-empty": ([2.0, 3.0], 2.0), "test-item": ([1.0, 4.0], 0.0)}


@pytest.mark.thorough(only=True)
def test_the_generated_tests_of_each_benchmark_pass() -> None:
    found = plugin_speed.run(laps=2, number=1)
    assert set(found) == set(plugin_speed.sources(0))
    assert all(len(cost.laps) == 2 and min(cost.laps) > 0 for cost in found.values())


READ_BENCHMARKS: dict[str, Callable[..., Any]] = {
    "read_sequential": reading.read_sequential,
    "read_random": reading.read_random,
    "sums": reading.sums,
    "list_directory": reading.list_directory,
    "read_shared": reading.read_shared,
}


def test_the_rounds_of_bench_read_apply_to_each_of_its_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}

    def note(name: str) -> Callable[..., Any]:
        def measure(_image: object, rounds: int) -> Any:
            asked[name] = rounds
            return [] if name == "sums" else {"name": name}

        return measure

    monkeypatch.setattr(reading, "make_images", lambda _folder: (None, None))
    for name in READ_BENCHMARKS:
        monkeypatch.setattr(reading, name, note(name))
    elements = reading.bench_read(7)
    assert asked == dict.fromkeys(READ_BENCHMARKS, 7)
    (sort,) = [element for element in elements if element["name"] == "sort-506-sorted"]
    assert is_timing(sort["wall_us"], 7)


def test_a_measurement_is_repeated_and_must_count_the_same_each_time() -> None:
    spent = iter([3.0, 1.0, 2.0])
    element = reading.repeated("it", 1, 3, lambda: (next(spent), {"count": 5}))
    wall = {"median": 2e6, "min": 1e6, "max": 3e6, "rounds": 3}
    assert element == {"name": "it", "n": 1, "count": 5, "wall_us": wall}
    counts = iter([5, 5, 6])
    with pytest.raises(BenchmarkError, match="it: round 3 does not count what the first one does"):
        reading.repeated("it", 1, 3, lambda: (1.0, {"count": next(counts)}))


def test_every_benchmark_names_its_default_number_of_rounds() -> None:
    assert set(ROUNDS) == set(catalogue.BENCHMARKS)


def test_a_debugger_is_measured_by_turns_and_as_often_as_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    spent = iter(range(1, 1000))

    def measured(name: str) -> Callable[..., float]:
        def run(*_arguments: object) -> float:
            ran.append(name)
            return next(spent) ** 1.5

        return run

    for name in ("run_alone", "run_attached", "debuggee_steps", "step_by_gdb"):
        monkeypatch.setattr(debugging, name, measured(name))
    monkeypatch.setattr(debugging.shutil, "which", lambda _name: "gdb")
    monkeypatch.setattr(going_back, "bench_back", lambda _rounds: [])
    elements = printed("debug", "--rounds", "4")
    pairs = 4 * debugging.PAIRS
    turn = ["run_alone", "run_attached", "run_attached", "run_alone"]
    assert ran[: 2 * pairs] == turn * (pairs // 2)
    assert ran[2 * pairs :] == ["debuggee_steps"] * 4 + ["step_by_gdb"] * 4
    alone, attached, *stepped = elements
    assert is_timing(alone["wall_us"], pairs)
    assert is_timing(attached["wall_us"], pairs)
    assert all(is_timing(element["wall_us"], 4) for element in stepped)
    assert elements[3]["per_second"] == round(debugging.STEPS / (2 * pairs + 5) ** 1.5)


def test_a_ratio_of_speeds_is_the_median_of_those_of_pairs() -> None:
    # The third pair is of a time in which the host was slow, the last one has been disturbed in the middle.
    runs = measuring.ByTurns([1.0, 1.1, 4.0, 1.0, 9.0], [1.25, 1.25, 5.0, 1.0, 3.0])
    assert runs.ratio == 0.88


def test_pairs_are_run_by_turns_and_each_time_is_noted_for_its_own() -> None:
    spent = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    plain, other = (lambda: next(spent)), (lambda: next(spent) + 100)
    assert measuring.by_turns(3, plain, other) == ([1.0, 4.0, 5.0], [102.0, 103.0, 106.0])


def test_the_time_of_a_run_is_counted_from_its_first_instruction_to_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(measuring.time, "thread_time", lambda: now[0])
    with Machine(memory=1 << 20, high_memory=0) as machine:
        machine.ram.write(0x1000, b"\x90" * 16)
        machine.cpu.eip = 0x1000

        def run() -> None:
            now[0] += 1000  # what is made ready once
            for _ in range(3):
                machine.run(fuel=2)
                now[0] += 1  # what is done between two pieces, and after the last one

        assert measuring.run_time(machine, run) == 2
        assert machine.clock.retired == 6
        assert "run" not in vars(machine)


@pytest.mark.thorough(only=True)
def test_a_machine_with_a_debugger_attached_ends_its_work_and_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(going_back, "MINUTE", 2.0)  # seconds
    for module in (debugging, going_back):
        monkeypatch.setattr(module, "PAIRS", 1)
    by_name = {element["name"]: element for element in printed("debug", "--rounds", "3")}
    assert by_name["debuggee-steps"]["per_second"] > 500
    assert by_name["run-attached"]["ratio_of_speed_to_alone"] > 0.5
    minute = by_name["go-in-a-minute"]
    assert is_timing(minute["wall_us"], going_back.PLACES)
    assert minute["retired"] > 1_000_000
    assert minute["checkpoints"] > 10
    assert 1 << 20 < minute["stored_bytes"] < 256 << 20
    for name in ("go-before-mounts-end", "back-to-event-over-a-request", "back-to-breakpoint-over-a-request"):
        assert by_name[name]["wall_us"]["rounds"] >= 10
    cpu, wall = (by_name["checkpoint"][f"{clock}_us"] for clock in ("cpu", "wall"))
    assert 0 <= cpu["min"] <= cpu["median"] <= cpu["max"], "the clock of CPU time may be a coarse one"
    assert (cpu["rounds"], is_timing(wall, wall["rounds"])) == (wall["rounds"], True)


def test_the_loop_of_the_checksum_takes_as_many_instructions_as_the_benchmark_says():
    shell = program_image("shell")
    code, end = shell.address("crc_add"), shell.address("crc_added")
    ends = [0]
    with Machine(memory=32 << 20, high_memory=0) as machine:
        for section in shell.sections:
            machine.ram.write(section.address, bytes(section.data))
        for size in (800, 1600):
            machine.cpu.eip, machine.cpu.eax, machine.cpu.ecx = code, checksum.DATA, size
            ends.append(machine.run(until=end).retired)
    assert ends[2] - ends[1] - ends[1] == 800 // checksum.AT_ONCE * checksum.TURN


@pytest.mark.thorough(only=True)
def test_the_checksum_benchmark_counts_the_loop_and_little_else():
    result = checksum.bench_checksum("blocks", 1)
    assert result["guest_instructions"] == checksum.TURN * (30 << 20) // checksum.AT_ONCE
    assert 0 < result["ratio_to_engine"] <= 1.5
