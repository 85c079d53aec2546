"""Stops at slots and at servers: by state, of the endpoints that there are and of those that come."""

import pytest
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said


def test_a_break_at_a_slot_stops_at_each_change_of_its_state_in_order(prompt: Prompt) -> None:
    said(prompt, "until ipc.load if op == FREE_SPACE and thread == 10")
    said(prompt, "back to ipc.reply")
    said(prompt, "break slot 0 of d0p1")
    stops = [said(prompt, "continue").splitlines() for _ in range(5)]
    states = [stop[0].partition(", by ")[0] for stop in stops]
    assert states == [f"stop 2: slot 0 of d0p1: {state}" for state in ("done", "free", "taken", "served", "done")]
    routines = [stop[0].split("<")[1].split("+")[0].rstrip(">") for stop in stops]
    assert routines == ["reply", "release_slot", "take_slot", "hand_over_request", "server_gate"]
    back = [said(prompt, "back continue").splitlines()[0] for _ in range(4)]
    assert back == [stop[0] for stop in stops[3::-1]]


def test_a_break_at_a_slot_is_for_the_endpoints_that_come_later_as_well(prompt: Prompt) -> None:
    said(prompt, "break slot 0")
    first = [said(prompt, "continue").partition(", by ")[0] for _ in range(4)]
    assert first == [f"stop 1: slot 0 of {name}: {state}" for name in ("d0p1", "d0p2") for state in ("taken", "posted")]
    assert said(prompt, "back continue").startswith("stop 1: slot 0 of d0p2: taken, by ")


def test_a_slot_is_shown_as_taken_from_where_the_break_at_its_state_says_so(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until ipc.take if thread == 12")
    assert "slots  T..............................." in said(prompt, "slots rom")
    assert bench.system.slots("rom")[0].state.name == "TAKEN"
    said(prompt, "tbreak state free")
    said(prompt, "continue")
    assert "slots  -..............................." in said(prompt, "slots rom")


def test_a_break_at_a_state_stops_where_any_slot_comes_to_it(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until ipc.take")
    said(prompt, "break state served if thread == 10")
    assert "<serve>" in said(prompt, "continue")
    assert bench.debuggee.threads.running().number == 10
    assert said(prompt, "print endpoint[1].state[0]") == "SERVED = 0x3 = 3\n"


def test_a_break_at_a_dead_server_stops_when_its_disk_has_been_unplugged(prompt: Prompt, bench: Workbench) -> None:
    assert said(prompt, "break state server-dead") == "stop 1 set: state server-dead\n", "no server is there yet"
    said(prompt, "until ipc.load if op == FREE_SPACE")
    bench.system.unplug(0)
    assert said(prompt, "continue").startswith("stop 1: state server-dead of d0p1, by policy, in the host call ")
    endpoint = next(e for e in bench.system.kernel.state.endpoints.by_number.values() if e.name == "d0p1")
    assert endpoint.dead
    assert said(prompt, "when server d0p1 dead").startswith("#1 instruction")


@pytest.mark.parametrize("others", [False, True])
def test_a_break_at_a_slot_of_a_server_to_come_is_held_until_it_comes(prompt: Prompt, others: bool) -> None:
    if others:
        said(prompt, "until ipc.take")  # the server of the ROM is there
        assert "rom" in said(prompt, "slots rom")
    assert said(prompt, "tbreak slot 0 of d0p2").endswith(": slot 0 of d0p2\n")
    said(prompt, "break state served of d0p2")
    assert ": slot 0 of d0p2: taken, by " in said(prompt, "continue")
    assert ": state served of d0p2, by " in said(prompt, "continue")
    assert ": state served of d0p2, by " in said(prompt, "continue"), "and where it is known already"


def test_a_break_at_a_slot_stops_after_going_back_where_it_has_stopped_before(prompt: Prompt) -> None:
    said(prompt, "break slot 0 of d0p1")
    first = [said(prompt, "continue").splitlines()[0] for _ in range(3)]
    said(prompt, "goto start")
    assert [said(prompt, "continue").splitlines()[0] for _ in range(3)] == first, "that it came is no change of a slot"
    assert [said(prompt, "back continue").splitlines()[0] for _ in range(2)] == first[1::-1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("break slot 99 of d0p1", "'99' is not a slot: "),
        ("break state serve of d0p1", "no state 'serve'; there is served"),
    ],
)
def test_a_break_at_a_slot_of_a_server_that_cannot_come_is_refused(prompt: Prompt, line: str, told: str) -> None:
    with pytest.raises(CommandError) as error:
        prompt.line(line)
    assert str(error.value).startswith(told)
