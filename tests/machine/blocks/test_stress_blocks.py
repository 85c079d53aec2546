"""Routines beside unmapped pages, with flags and segments by turns, make the same run under both clocks."""

import pytest
from callgate.kernel.machine.blocks.variants import Variants
from callgate.tools.fuzz import stress_blocks, stress_clock
from callgate.tools.fuzz.stress_blocks import Difference, Pair
from miscounting import one_too_many


@pytest.fixture(scope="module")
def pair():
    both = Pair("blocks", "native")
    yield both
    both.close()


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("first", range(1, 31, 5))
def test_routines_beside_unmapped_pages_make_the_same_run_under_both_clocks(pair, first):
    assert sum(pair.program(seed) for seed in range(first, first + 5)) > 5


def test_random_routines_make_blocks_of_which_several_translations_are_wanted(pair, monkeypatch):
    translate, wanted = Variants.translate, []

    def counted(self, address, but):
        wanted.append(len(self.known.get(address, {but})) - 1)
        translate(self, address, but)

    monkeypatch.setattr(Variants, "translate", counted)
    assert sum(pair.program(seed) for seed in range(100, 104)) > 100
    assert len(wanted) > 50
    assert sum(wanted) > 20


def test_a_handler_that_sees_a_wrong_instant_is_noticed(pair):
    with one_too_many(pair), pytest.raises(Difference):
        sum(pair.program(seed) for seed in range(1, 20))


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(900)
def test_two_hundred_programs_of_such_routines_make_the_same_run_under_both_clocks():
    assert stress_blocks.main(["--programs", "200", "--seed", "1000"]) == 0


@pytest.mark.parametrize("tool", [stress_blocks, stress_clock])
def test_a_tool_says_what_it_has_compared_and_begins_nothing_when_its_time_is_up(tool, capsys):
    assert tool.main(["--programs", "2"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 programs, ")
    assert " from seed 1: " in line
    assert line.endswith("no difference and no crash")
    assert tool.main(["--seconds", "0"]) == 0
    assert capsys.readouterr().out.startswith("0 programs from seed 1: ")


@pytest.mark.parametrize("option", ["--programs", "--jobs"])
@pytest.mark.parametrize("tool", [stress_blocks, stress_clock])
def test_a_tool_that_would_compare_nothing_is_refused(tool, option, capsys):
    with pytest.raises(SystemExit):
        tool.main([option, "0"])
    assert f"argument {option}: 0 is not a number from 1 on" in capsys.readouterr().err
