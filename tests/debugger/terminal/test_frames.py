"""`frame`, `up` and `down`: frames of the backtrace, through the call gate into the client."""

import io
from collections.abc import Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Prompt, int]]:
    """A debugger that stands in the kernel, where the shell takes a slot."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions(commands="df")) as system:
        bench = Workbench(system, History(system))
        prompt = Prompt(bench, io.StringIO())
        prompt.line("until ipc.take if thread == 12")
        yield prompt, system.machine.clock.retired
        bench.close()


@pytest.fixture
def prompt(shared: tuple[Prompt, int]) -> Prompt:
    prompt, place = shared
    said(prompt, "delete")
    said(prompt, f"goto {place}")
    said(prompt, "frame 0")
    return prompt


def client(prompt: Prompt) -> int:
    """Return the number of the first frame in the shell."""
    rows = said(prompt, "bt").splitlines()
    return next(number for number, row in enumerate(rows) if int(row.split()[1], 16) < 0x8000_0000)


def test_a_frame_of_the_client_has_its_own_eip_esp_and_source_lines(prompt: Prompt) -> None:
    number = client(prompt)
    row = said(prompt, "bt").splitlines()[number]
    first, source = said(prompt, f"frame {number}").splitlines()
    assert source == "    call    SELECTOR_SYSTEM_GATE:0", "it is in the system call, which is a macro"
    assert first == row
    eip = int(row.split()[1], 16)
    assert said(prompt, "p/x eip") == f"{eip:#010x}\n"
    listed = said(prompt, "list 2").splitlines()
    assert listed[0] == row.split()[-1]
    assert listed[3].split()[:2] == [row.rpartition(":")[2], "SYSTEM"]
    shown = said(prompt, "info registers").splitlines()
    assert f"eip {eip:08x}" in shown[0]
    esp = int(said(prompt, "p/x esp"), 16)
    assert f"esp {esp:08x}" in shown[0]
    assert shown[1].startswith(f"of frame {number} not known, since nothing has saved them: ")
    assert "eflags" in shown[1]


def test_memory_is_read_at_the_stack_of_the_frame_as_the_machine_has_it(prompt: Prompt) -> None:
    machine = prompt.desk.bench.machine
    number = client(prompt)
    kernel = said(prompt, "x/2w esp")
    said(prompt, f"frame {number}")
    esp = int(said(prompt, "p/x esp"), 16)
    there = int.from_bytes(machine.read(esp, 4), "little")
    assert said(prompt, "print/x [esp]") == f"{there:#010x}\n"
    assert said(prompt, "x/2w esp").startswith(f"{esp:08x}  {there:08x} ")
    eip = said(prompt, "p/x eip").strip()
    assert eip in said(prompt, "x/1i eip")
    said(prompt, "frame 0")
    assert said(prompt, "x/2w esp") == kernel


def test_up_and_down_go_by_callers_and_a_move_selects_frame_0_again(prompt: Prompt) -> None:
    selection = prompt.desk.bench.selection
    rows = said(prompt, "bt").splitlines()
    assert said(prompt, "up").splitlines()[0] == rows[1]
    assert said(prompt, "").splitlines()[0] == rows[2], "an empty line does it again"
    assert said(prompt, "down 2").splitlines()[0] == rows[0]
    for line in ("stepi", "back stepi", "sb 3", "back stepi 2", "finish"):
        said(prompt, "up")
        assert selection.index == 1
        said(prompt, line)
        assert selection.index == 0
        assert said(prompt, "frame").startswith("#0 ")
    for line in ("up", "stepi", "back stepi"):
        said(prompt, line)
    assert selection.index == 0, "where it has been selected before, too"


def test_a_condition_is_about_the_cpu_whatever_frame_is_selected(prompt: Prompt) -> None:
    said(prompt, f"frame {client(prompt)}")
    said(prompt, "break ipc.fill if esp > 0x80000000")
    assert said(prompt, "continue").startswith("stop ")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("frame 99",), "no frame 99: the backtrace has "),
        (("up 99",), "no frame 99: the backtrace has "),
        (("down",), "frame 0 is selected, and frame 0 is the innermost"),
        (("frame x",), "frame [N]: the number of a frame; bt lists them"),
        (("up x",), "'x' is not a count"),
        (("frme 1",), "no command 'frme'; did you mean frame?"),
        (("up", "print eflags"), "eflags is not known in frame 1: nothing has saved it"),
        (("up", "set eax = 1"), "frame 1 is selected, and this is about frame 0"),
        (("up", "watch [esp]"), "frame 1 is selected, and this is about frame 0"),
        (("frame {client}", "print [0x90000000]"), "[0x90000000]: no memory is mapped there"),
    ],
)
def test_a_frame_that_there_is_not_and_what_is_not_known_of_one_is_refused(
    prompt: Prompt, lines: tuple[str, ...], told: str
) -> None:
    *before, last = (line.format(client=client(prompt)) for line in lines)
    for line in before:
        said(prompt, line)
    with pytest.raises(CommandError) as error:
        prompt.line(last)
    assert str(error.value).startswith(told)


def test_tab_and_help_know_the_words_for_frames(prompt: Prompt) -> None:
    assert completions("fra", "fra") == ["frame "]
    assert completions("do", "do") == ["down "]
    assert "  example: frame 4\n" in said(prompt, "help frame")
