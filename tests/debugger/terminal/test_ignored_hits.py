"""`ignore N COUNT`: stops that are passed some times before they end a run."""

import pytest
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

PLACES = ["break take_slot", "break ipc.take", "watch kernel_words", "break slot 0", "break ipc"]


def places(prompt: Prompt, count: int) -> list[str]:
    """Return where the next runs end."""
    return [at(prompt, "continue") for _ in range(count)]


def at(prompt: Prompt, line: str) -> str:
    """Return what a command says of where the system stands, whether that is in the past or not."""
    return said(prompt, line).replace(", in the past", "")


@pytest.mark.parametrize("line", PLACES)
def test_a_stop_that_is_ignored_is_passed_so_often_and_again_where_the_run_comes_there_again(
    prompt: Prompt, bench: Workbench, line: str
) -> None:
    said(prompt, line)
    stops = places(prompt, 6)
    said(prompt, "goto start")
    said(prompt, "ignore 1 3")
    assert places(prompt, 3) == stops[3:]
    said(prompt, "goto start")
    assert places(prompt, 1) == stops[3:4], "what has been passed is passed again"
    assert "beginning of the history" in said(prompt, "back continue")
    assert bench.stops.known[1].passing.left == 0
    said(prompt, "ignore 1 0")
    assert places(prompt, 1) == stops[:1]


def test_going_back_does_not_count_and_stops_at_hits_that_have_not_been_passed(prompt: Prompt) -> None:
    said(prompt, "break ipc.take")
    stops = places(prompt, 4)
    assert said(prompt, "ignore 1 2").endswith("event ipc.take, passes the next 2 hits\n")
    assert at(prompt, "back continue") == stops[2]
    assert said(prompt, "info break").endswith(", 5 hits, passes the next 2 hits\n")
    said(prompt, "stepi")
    assert "passes the next 2 hits" in said(prompt, "info break"), "the event where it stands has ended a run"
    said(prompt, "back stepi")
    after = at(prompt, "continue")
    assert after not in stops
    assert said(prompt, "info break").endswith(", 8 hits\n")
    assert at(prompt, "back continue") == stops[2], "over the two that have been passed"


def test_a_step_passes_a_hit_as_a_run_does_and_another_stop_at_the_same_place_ends_the_run(prompt: Prompt) -> None:
    said(prompt, "until take_slot")
    said(prompt, "break slots.asm:51")
    said(prompt, "break slots.asm:51")
    said(prompt, "ignore 2 2")
    assert said(prompt, "stepi 60").startswith("stop 3: ")
    assert "2 hits" not in said(prompt, "info break")
    assert ", 1 hits, passes the next 1 hit\n" in said(prompt, "info break")


def test_hits_that_a_change_by_hand_has_undone_are_to_be_passed_again(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "break ipc.take")
    said(prompt, "ignore 1 2")
    said(prompt, "continue")
    assert bench.stops.known[1].passing.left == 0
    said(prompt, "goto start")
    said(prompt, "stepi")
    said(prompt, "set edx = 0x1234")
    assert said(prompt, "info break").endswith(", 1 hits, passes the next 2 hits\n")


def test_another_condition_leaves_the_count_as_it_is(prompt: Prompt) -> None:
    said(prompt, "break ipc.take")
    said(prompt, "ignore 1 2")
    said(prompt, "condition 1 thread == 12")
    assert said(prompt, "info break").endswith("if thread == 12, 0 hits, passes the next 2 hits\n")
    said(prompt, "continue")
    assert said(prompt, "info break").endswith(", 3 hits\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ignore", "ignore N COUNT: the number of a stop, "),
        ("ignore 1", "ignore N COUNT: the number of a stop, "),
        ("ignore 1 many", "ignore N COUNT: the number of a stop, "),
        ("ignore 7 1", "no stop 7; there is none"),
        ("ignore 1 -1", "-1 times: a stop is passed 0 to 1,000,000 times"),
        ("ignore 1 1000001", "1,000,001 times: "),
        ("ignor 1 2", "no command 'ignor'; did you mean ignore?"),
    ],
)
def test_ignore_that_is_told_nothing_useful_says_what_it_wants(prompt: Prompt, line: str, told: str) -> None:
    with pytest.raises(CommandError) as error:
        prompt.line(line)
    assert str(error.value).startswith(told)
