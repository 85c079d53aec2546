"""Ctrl-C in the middle of each command that can take long: it says so, ends at an instruction, and loses nothing."""

import io
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.system import System, SystemOptions
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

HERE = 14_260  # instructions; each command below passes `take_slot` on its way, in the middle of which Ctrl-C comes
THERE = 10_860
TAKEN = 13_510  # so soon after a `take_slot` that no checkpoint lies between
SEARCHES = (
    "back stepi 1000",
    "back step 600",
    "back nexti 900",
    "back next 600",
    "back continue",
    "back to disk.command",
    "back request 5",
    f"goto {TAKEN}",
    "why -c [endpoint[0].window_table]",
    "who reads endpoint[1].free",
    "who writes ebx",
    "when endpoint[1].tail >= 3",
    "when slot 0 of d0p1 taken",
    "list requests",
    f"py history.go(history.moment_at({TAKEN}))",
)
RUNS = (
    "continue",
    "until disk.failed",
    "stepi 1000",
    "step 700",
    "nexti 900",
    "next 600",
    "step phase 100",
    "step request 6",
    "py machine.run()",
)


@pytest.fixture(scope="module")
def whole() -> Iterator[Prompt]:
    """A debugger of `df` whose run has been once."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions(commands="df")) as system:
        bench = Workbench(system, History(system))
        prompt = Prompt(bench, io.StringIO())
        prompt.line("continue")
        prompt.line("break trap_8")  # which does not come: what goes back to it has to look everywhere
        yield prompt
        bench.close()


def interrupted(prompt: Prompt, line: str) -> str:
    """Carry a line out, with Ctrl-C pressed where the next message slot is taken; return what is said."""
    machine = prompt.desk.bench.machine
    with machine.probing("take_slot", lambda: signal.raise_signal(signal.SIGINT)):
        try:
            return said(prompt, line)
        except CommandError as error:
            return str(error)


def fingerprint(prompt: Prompt) -> object:
    """Return all that could be lost: where the system stands, registers, memory, and what can be gone to."""
    bench = prompt.desk.bench
    ram = bench.machine.ram.read(0, 4 << 20)
    return bench.history.moment, bench.history.edge, bench.machine.cpu.registers(), hash(ram)


@pytest.mark.parametrize("line", SEARCHES)
def test_ctrl_c_in_a_search_says_so_and_leaves_the_system_where_it_stood(whole: Prompt, line: str) -> None:
    said(whole, f"goto {HERE}")
    before = fingerprint(whole)
    assert "interrupted" in interrupted(whole, line)
    assert fingerprint(whole) == before


@pytest.mark.parametrize("line", RUNS)
def test_ctrl_c_in_a_run_says_so_and_the_run_goes_on_from_there_as_if_it_had_not_been(whole: Prompt, line: str) -> None:
    said(whole, "goto end")
    end = fingerprint(whole)
    said(whole, f"goto {THERE}")
    answer = interrupted(whole, line)
    assert "interrupted" in answer
    assert THERE < whole.desk.bench.history.moment.position.retired < HERE + THERE
    said(whole, "continue")
    assert fingerprint(whole) == end


def test_the_way_back_after_ctrl_c_asks_no_condition_of_breakpoints_and_watchpoints(whole: Prompt) -> None:
    debuggee, asked = whole.desk.bench.debuggee, Counter[str]()
    said(whole, f"goto {TAKEN}")
    before = fingerprint(whole)

    def ask(what: str) -> bool:
        asked[what] += 1
        return False

    taken = debuggee.machine.address("take_slot")
    point = debuggee.breakpoints.add(taken, conditions=[lambda: ask("breakpoint")])
    endpoint = debuggee.kernel.state.endpoints.by_number[0]
    free = KERNEL_BASE + endpoint.block + offset_of(Endpoint, "free")
    watchpoint = debuggee.watchpoints.add(Kind.WRITE, free, 4)
    watchpoint.condition = lambda _access: ask("watchpoint")
    try:
        assert "interrupted" in interrupted(whole, "back continue")
        on_the_way = asked.copy()
        said(whole, "back continue")
    finally:
        debuggee.breakpoints.remove(point)
        debuggee.watchpoints.remove(watchpoint)
        said(whole, f"goto {TAKEN}")
    assert fingerprint(whole) == before
    assert (on_the_way["breakpoint"], on_the_way["watchpoint"]) == (1, 0)  # before Ctrl-C
    assert asked["breakpoint"] > 1
    assert asked["watchpoint"] > 0
