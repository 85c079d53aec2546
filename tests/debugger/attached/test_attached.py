"""The debugger in Python does what the commands at the prompt do."""

import io
from collections.abc import Callable, Iterator

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.attached import Attached, attach
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

PLACE = "ipc.load", "op == FREE_SPACE and thread == 10"


@pytest.fixture
def debugger(boot_demo: Callable[[str], System]) -> Iterator[Attached]:
    with attach(boot_demo("df")) as debugger:
        yield debugger


@pytest.fixture(scope="module")
def at_place(boot_for_all: Callable[[str], System]) -> Iterator[tuple[Attached, Prompt]]:
    """A debugger in Python and one at the prompt, over two runs that stand at PLACE."""
    system = boot_for_all("df")
    prompt = Prompt(Workbench(system, History(system)), io.StringIO())
    prompt.line(f"until {' if '.join(PLACE)}")
    with attach(boot_for_all("df")) as debugger:
        assert debugger.run(*PLACE).reason == "debugger event"
        yield debugger, prompt


@pytest.fixture
def twins(at_place: tuple[Attached, Prompt]) -> Iterator[tuple[Attached, Prompt]]:
    """The same, which stand there again after the test."""
    debugger, prompt = at_place
    histories, here = (debugger.history, prompt.desk.bench.history), debugger.history.moment
    assert prompt.desk.bench.history.moment == here
    yield debugger, prompt
    for history in histories:
        history.go(here)


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (lambda debugger: debugger.step(4), "stepi 4"),
        (lambda debugger: debugger.step_over(12), "nexti 12"),
        (lambda debugger: debugger.step_line(3), "step 3"),
        (lambda debugger: debugger.back(5), "back stepi 5"),
        (lambda debugger: debugger.back_over(2), "back nexti 2"),
        (lambda debugger: debugger.back_line(2), "back step 2"),
        (lambda debugger: debugger.go(9_000), "goto 9000"),
    ],
)
def test_a_method_leads_to_where_its_command_leads(
    twins: tuple[Attached, Prompt], method: Callable[[Attached], object], line: str
) -> None:
    debugger, prompt = twins
    bench, here = prompt.desk.bench, debugger.history.moment
    method(debugger)
    prompt.line(line)
    assert debugger.history.moment == bench.history.moment != here
    assert debugger.machine.cpu.registers() == bench.machine.cpu.registers()


def test_a_value_is_followed_as_by_the_command(twins: tuple[Attached, Prompt]) -> None:
    debugger, prompt = twins
    text = said(prompt, "why -c message.eax")
    links = debugger.why("message.eax", most=64)
    assert text.endswith("".join(f"#{number} {link}\n" for number, link in enumerate(links, 1)))
    assert len(links) > 3


def test_a_watchpoint_stops_both_ways(twins: tuple[Attached, Prompt]) -> None:
    debugger, _ = twins
    number = debugger.watch("slot[0].client")
    here = debugger.history.moment
    stop = debugger.back_to_stop()
    assert stop is not None
    assert debugger.history.moment < here
    assert debugger.run().detail.write
    debugger.delete(number)
    with pytest.raises(CommandError, match="no stop"):
        debugger.delete(number)


def test_the_beginning_ends_all_ways_back_and_no_step_is_an_error(debugger: Attached) -> None:
    debugger.step(3)
    assert (debugger.back(2), debugger.back(5)) == (True, False)
    assert debugger.history.moment == debugger.history.first
    with pytest.raises(ValueError, match="0 steps: there is at least one"):
        debugger.step(0)
    with pytest.raises(CommandError, match="no symbol 'take_slto'"):
        debugger.run(until="take_slto")


def test_an_address_may_stand_where_a_place_is_wanted(debugger: Attached) -> None:
    address = debugger.system.machine.address("take_slot")
    assert debugger.run(until=address).eip == address
    number = debugger.break_at(address)
    assert debugger.run().detail.address == address
    debugger.delete(number)
    stack = debugger.system.machine.cpu.esp - 4
    assert stack > 0xC000_0000
    number = debugger.watch(stack)
    assert debugger.run().detail.address in range(stack, stack + 4)
    assert str(debugger.why(stack)[0]).startswith(f"[{stack:#010x}] = ")
