"""Random programs make the same run under the clock by blocks and under the clock by instruction."""

import subprocess
import sys

import pytest
from callgate.kernel.machine.blocks import accesses
from callgate.kernel.machine.blocks.file_loads import EAGER, FileLoads, Look
from callgate.tools.fuzz.stress_clock import Difference, Pair, main
from miscounting import one_too_many

FAR = (1 << 31) - (1 << 28)  # bytes from which on a call may not reach


@pytest.fixture(scope="module")
def pair():
    both = Pair("blocks", "native")
    yield both
    both.close()


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("first", range(1, 13, 4))
def test_random_programs_make_the_same_run_under_both_clocks(pair, first):
    assert sum(pair.program(seed) for seed in range(first, first + 4)) > 4 * 100


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("seed", "changes"), [(21, 1), (33, 4), (100_004, 50)])
def test_a_random_program_makes_the_same_run_where_loads_look_for_file_data_first_at_once(monkeypatch, seed, changes):
    monkeypatch.setattr(FileLoads, "habits", EAGER)
    changed, return_to = [], Look.return_to
    monkeypatch.setattr(Look, "return_to", lambda look, target: changed.append(target) or return_to(look, target))
    away, page_near = [], accesses.page_near

    def near(address):
        page = page_near(address)
        away.append(abs(page - address))
        return page

    monkeypatch.setattr(accesses, "page_near", near)
    both = Pair("blocks", "native")
    try:
        assert both.program(seed)
    finally:
        both.close()
    if away and max(away) >= FAR:
        pytest.skip("a process with many engines has no room near the code of this one: no load can be changed")
    assert len(changed) >= changes


# Seeds that have shown something: INTO in mid-block, a truncated VEX prefix, flags at a fault, a store into the next
# instruction after arithmetic, a register of a device behind a load from memory above 4 GiB, a jump to a device while
# the engine is led to a fetch fault by steps (an error of the run), DF lost at #MF between two slices, INSB at the
# count at which a block would have ended that has stored above 4 GiB before it faulted.
@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("seed", [261, 32, 202, 152, 51, 20271, 20287, 702253])
def test_a_program_that_told_the_clocks_apart_once_does_so_no_more(pair, seed):
    assert pair.program(seed)


def test_a_clock_that_counts_one_instruction_too_many_is_noticed(pair):
    with one_too_many(pair), pytest.raises(Difference):
        sum(pair.program(seed) for seed in range(1, 20))


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(900)
def test_six_hundred_random_programs_make_the_same_run_under_both_clocks():
    assert main(["--programs", "600", "--seed", "1000"]) == 0


@pytest.mark.thorough(only=True)
def test_random_programs_make_the_same_run_under_the_clock_in_python():
    assert main(["--programs", "100", "--seed", "1", "--oracle", "python"]) == 0


def test_a_difference_ends_the_command_with_status_1_and_names_the_program():
    command = [sys.executable, "-m", "callgate.tools.fuzz.stress_clock", "--programs", "1", "--counter", "sundial"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "programs 1 to 1" in done.stdout
    assert "'sundial' is not auto, blocks, native or python" in done.stdout
