"""`bt`: the calls that a thread is in, through gates and interrupts into the program."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import callgate.asm
import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.attached import Attached, attach
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.failure import CommandError

IN_REQUEST = "ipc.call", "op == FREE_SPACE"


@pytest.fixture
def debugger(boot_demo: Callable[[str], System]) -> Iterator[Attached]:
    """Stop where a server is about to handle a request of the shell."""
    with attach(boot_demo("df")) as debugger:
        debugger.run(*IN_REQUEST)
        yield debugger


def routines(debugger: Attached, thread: int | None = None) -> list[str]:
    return [frame.symbol.partition("+")[0] for frame in debugger.backtrace(thread)]


def test_a_client_that_waits_for_a_reply_is_shown_from_its_sleep_to_its_beginning(debugger: Attached) -> None:
    assert routines(debugger) == ["serve"]
    shell = next(thread.number for thread in debugger.bench.debuggee.threads if thread.name == "shell")
    assert routines(debugger, shell) == [
        "post_and_wait",
        "ipc_request",
        "run_coroutine",
        "system_policy",
        "command_df",
        "run_line",
        "start",
    ]


def test_a_backtrace_is_the_same_after_one_has_gone_to_and_fro(debugger: Attached) -> None:
    before, here = debugger.backtrace(12), debugger.machine.position.retired
    debugger.go(here - 500)
    assert debugger.backtrace(12) != before
    debugger.go(here)
    assert debugger.backtrace(12) == before


def test_each_caller_is_shown_with_the_line_of_its_call(debugger: Attached) -> None:
    prompt = Prompt(debugger.bench, output := io.StringIO())
    prompt.line("bt 12")
    first = output.getvalue().splitlines()
    assert all(line.startswith(f"#{number} ") for number, line in enumerate(first))
    source = Path(callgate.asm.__path__[0], "kernel/ipc/client.asm").read_text().splitlines()
    assert first[0].endswith(f"asm/kernel/ipc/client.asm:{source.index('        call    hand_over_request') + 2}")
    assert "<command_df+" in first[4]
    assert first[4].endswith("asm/user/shell/commands/shell_volumes.asm:92")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bt 99", "there is no thread 99"),
        ("bt shell", "bt THREAD: the number of a thread, not 'shell'; threads lists them"),
    ],
)
def test_a_thread_that_there_is_not_is_refused(debugger: Attached, line: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        Prompt(debugger.bench, io.StringIO()).line(line)
