"""What a test sets up between its calls, which no instruction writes: watchpoints, `who` and `when` report it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.bare.logging_run import recording_of_calls
from callgate.tools.cli.debugging.systems import begun, recorded
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.workbench import Workbench
from callgate.tools.recording import parsed_recording
from debugger_lines import said

BY_TEST = "the test, which has set it up for the call that begins here"
MEGABYTE = 1 << 20
CODE = """
count:  inc     dword [0x20000]
        mov     eax, [0x20000]
        ret
"""


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[Prompt]:
    """A debugger of a test with two calls; what the test sets up for the second one lies between them."""
    cpu = BareCpu(root=tmp_path)
    cpu.load(CODE)
    for value in (1, 0x70):
        cpu.write(0x20000, value.to_bytes(4, "little"))
        cpu.call("count", eax=value)
    recording = parsed_recording(tmp_path / "it.cgr", recording_of_calls(cpu, "a test").encode())
    cpu.close()
    with recorded(recording, ()) as machine:
        bench = Workbench(machine, begun(machine, recording, 8 * MEGABYTE))
        yield Prompt(bench, io.StringIO())
        bench.close()


def rows(prompt: Prompt, question: str) -> list[tuple[int, str]]:
    """Return where each row of an answer is, and by what it was."""
    found = re.findall(r"^#\d+ instruction (\d+): .*?, by (.*)$", said(prompt, question), re.MULTILINE)
    return [(int(retired), by.partition(",")[0]) for retired, by in found]


def test_questions_list_what_a_test_has_set_up_with_the_moment_after_it(prompt: Prompt) -> None:
    here = prompt.desk.bench.history.moment
    by_test = (3, BY_TEST.partition(",")[0])
    counted = "0x00400000 <count>"
    assert rows(prompt, "who writes [0x20000]") == [(0, counted), by_test, (3, counted)]
    reads = [(0, counted), (1, "0x00400006 <count+0x6>"), (3, counted), (4, "0x00400006 <count+0x6>")]
    assert rows(prompt, "who reads [0x20000]") == reads
    moved = "0x00400006 <count+0x6>  mov eax"
    assert rows(prompt, "who writes eax") == [(1, moved), by_test, (4, moved)]
    assert rows(prompt, "when [0x20000] == 0x70") == [by_test]
    assert prompt.desk.bench.history.moment == here
    said(prompt, "goto #1")
    assert said(prompt, "print [0x20000]") == "0x70 = 112\n"


def test_a_watchpoint_ends_a_run_there_forward_and_backward_and_no_way_to_another_moment(prompt: Prompt) -> None:
    said(prompt, "watch [0x20000]")
    forward = [said(prompt, "continue").splitlines()[0] for _ in range(4)]
    assert forward[1] == f"stop 1: write of 1 byte at 0x00020000 by {BY_TEST}"
    assert forward[0] == forward[2] == "stop 1: write of 4 bytes at 0x00020000 by 0x00400000 <count>"
    assert forward[3] == "the routine has returned, and the test ends here"
    back = [said(prompt, "back continue").splitlines()[0] for _ in range(4)]
    assert back == [*forward[2::-1], "this is the beginning of the history"]
    assert said(prompt, "goto 4").startswith("instruction 4, in the past")
    assert said(prompt, "stepi").startswith("instruction 5")
