"""Back to a stop at an event: the time line knows where it was, so that nothing after it is repeated."""

import io
from collections.abc import Callable

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History, searching, timeline
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

PLACES = ("ipc.take if thread == 12", "ipc.reply if type == 2 and op == FREE_SPACE and thread == 10")


def ways_back(prompt: Prompt, stop: str) -> list[str]:
    """Return all that `back continue` comes to from the end, the beginning last."""
    said(prompt, "goto end")
    number = said(prompt, f"break {stop}").split()[1]
    found = [said(prompt, "back continue")]
    while not found[-1].startswith("this is the beginning"):
        found.append(said(prompt, "back continue"))
    said(prompt, f"delete {number}")
    return [text.replace(f"stop {number}", "stop N") for text in found]


@pytest.mark.parametrize("kept", [40, pytest.param(timeline.MOST, marks=pytest.mark.thorough(only=True))])
def test_stops_at_events_are_the_same_ones_whether_the_time_line_knows_of_them_or_not(
    prompt: Prompt, bench: Workbench, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(timeline, "MOST", kept)
    monkeypatch.setattr(timeline, "DROPPED", kept // 4)
    monkeypatch.setattr(timeline, "STRETCH", 1000)
    said(prompt, "continue")
    assert bench.timeline.dropped == (kept == 40)
    known = [ways_back(prompt, place) for place in PLACES]
    assert [len(ways) for ways in known] == [7, 2]
    said(prompt, "goto end")
    bench.timeline.kinds = frozenset()
    assert [ways_back(prompt, place) for place in PLACES] == known


def test_nothing_is_repeated_where_no_event_has_come(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "continue")
    said(prompt, "break ipc.bad_reply")
    passed: list[int] = []
    with bench.machine.probing("take_slot", lambda: passed.append(1)):
        assert said(prompt, "back continue").startswith("this is the beginning")
        assert not passed
        said(prompt, "goto end")
        said(prompt, "break trap_8")  # a place, of which no time line knows
        passed.clear()
        assert said(prompt, "back continue").startswith("this is the beginning")
        assert passed


def test_nothing_is_repeated_after_an_event_whose_fields_say_that_a_condition_does_not_hold(
    prompt: Prompt, bench: Workbench
) -> None:
    said(prompt, "continue")
    said(prompt, "break ipc.take if eax >= 0 and thread == 8")
    passed: list[int] = []
    with bench.machine.probing("take_slot", lambda: passed.append(bench.debuggee.threads.running().number)):
        assert "thread=0x8" in said(prompt, "back continue")
    assert set(passed) <= {8}


def test_events_before_the_time_line_began_are_looked_for(boot_demo: Callable[[str], System]) -> None:
    system = boot_demo("df")
    history = History(system)
    history.run(until="take_slot")
    prompt = Prompt(Workbench(system, history), io.StringIO())
    said(prompt, "continue")
    said(prompt, "break disk.found")
    assert said(prompt, "back continue").startswith("stop 1: event disk.found")
    assert history.moment.position.retired < prompt.desk.bench.timeline.first
    assert said(prompt, "back continue").startswith("this is the beginning")


def test_a_way_back_to_an_event_that_is_known_to_be_the_last_repeats_the_run_once(
    prompt: Prompt, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been repeated twice: to find the event, and to go there."""
    said(prompt, "continue")
    history, restored = bench.history, []
    plain = history.checkpoints.restore
    monkeypatch.setattr(history.checkpoints, "restore", lambda one: (restored.append(one.moment), plain(one)))
    for _ in range(5):
        restored.clear()
        said(prompt, "back to ipc.take")
        here, state = history.moment, bench.machine.cpu.registers()
        assert len(restored) == 1
        said(prompt, "goto start")
        said(prompt, f"goto {here.position.retired}")
        assert (history.moment, bench.machine.cpu.registers()) == (here, state)


def test_from_a_stop_that_was_found_backward_the_run_goes_on_as_it_did(prompt: Prompt, bench: Workbench) -> None:
    for line in ("break ipc.take", "continue", "continue", "continue"):
        said(prompt, line)
    third = bench.history.moment
    said(prompt, "continue")
    fourth = bench.history.moment
    said(prompt, "back continue")
    assert bench.history.moment == third
    said(prompt, "continue")
    assert bench.history.moment == fourth
    said(prompt, "back stepi")
    assert bench.history.moment.position.retired == fourth.position.retired - 1
    said(prompt, "continue")
    assert bench.history.moment == fourth


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search run in pieces of 37 instructions, with a checkpoint after each where one can be kept."""
    for name, value in {"FIRST_PIECE_BACK": 37, "NEAR": 50, "CLOSE": 100, "SEARCH_SECONDS": 0.0}.items():
        monkeypatch.setattr(searching, name, value)
    monkeypatch.setattr(searching, "piece_after", lambda *_: 37)


@pytest.mark.parametrize("place", ["take_slot if thread == 12", "ipc.take", "ipc.reply if endpoint == 1"])
@pytest.mark.usefixtures("in_small_pieces")
def test_a_search_in_pieces_finds_what_one_in_a_single_run_finds(
    prompt: Prompt, bench: Workbench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    said(prompt, "continue")
    bench.timeline.kinds = frozenset()
    in_pieces = ways_back(prompt, place)
    before = len(bench.history.checkpoints.kept)
    monkeypatch.undo()
    assert ways_back(prompt, place) == in_pieces
    assert len(in_pieces) > 3
    assert before > 50, "pieces have left checkpoints"


@pytest.mark.usefixtures("in_small_pieces")
def test_a_search_leaves_checkpoints_on_a_long_way_so_that_the_way_to_what_it_has_found_is_short(
    prompt: Prompt, bench: Workbench
) -> None:
    said(prompt, "continue")
    said(prompt, "break take_slot if thread == 12")
    history, found = bench.history, 0
    while "stop 1" in said(prompt, "back continue"):
        here = history.moment.position.retired
        assert here - history.checkpoints.before(history.moment).moment.position.retired <= 600
        found += 1
    assert found == 6
