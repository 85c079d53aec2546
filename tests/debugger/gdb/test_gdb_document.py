"""docs/gdb.md and docs/debugging.md: the sessions in them are what gdb prints, and steps are the same in each tool.

With CALLGATE_THOROUGH=1, `pytest --refresh-transcripts tests/debugger/gdb/test_gdb_document.py` writes what it prints.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import host_programs
import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.memory import USER_MESSAGES
from callgate.kernel.system import System
from callgate.tools.debugger.attached import attach
from callgate.tools.debugger.commands.prompt import Prompt

DOCUMENTS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"(?<=^```gdb\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "(gdb) "
SAME_IN = ("13.", "18.")
#: Lines about files that are read and threads that come and go, of which no two versions print the same.
NOISE = re.compile(r"^(Reading |warning: |\[New |process \d+ is executing|\[Switching |\[Thread \S+ \(id|determining )")
SHORTER = "set filename-display basename\nset print address off\nset width 118\n"


def session(gdb: Callable[..., str], block: str, command: str) -> str:
    """Return a block with its commands' present output, of a guest that runs a command."""
    commands = [line.removeprefix(PROMPT) for line in block.splitlines() if line.startswith(PROMPT)]
    marks = "".join(f"echo \\n@@{number}\\n\n{typed(each)}\n" for number, each in enumerate(commands))
    out = gdb(f"{SHORTER}{marks}echo \\n@@end\\n\nkill\n", command)
    parts = re.split(r"^@@(?:\d+|end)\n", out, flags=re.MULTILINE)[1:-1]
    assert len(parts) == len(commands), out
    return "".join(shown(each, part) for each, part in zip(commands, parts, strict=True))


def typed(command: str) -> str:
    """Return a line for gdb that prints a command's answer on standard output, even that of `monitor`."""
    return f"python print(gdb.execute({command!r}, to_string=True))" if command.startswith("monitor ") else command


def shown(command: str, output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not NOISE.match(line)]
    text = "".join(f"{line}\n" for line in lines)
    text = re.sub(r"1 \(remote [^)]*\)", "1 (remote)", text)
    return f"{PROMPT}{command}\n{text}"


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize(("name", "command"), [("gdb.md", "dir"), ("debugging.md", "df")])
def test_the_session_of_the_document_is_what_gdb_prints(
    gdb: Callable[..., str], request: pytest.FixtureRequest, name: str, command: str
) -> None:
    version = host_programs.run("gdb", "--version").splitlines()[0].split()[-1]
    if not version.startswith(SAME_IN):
        pytest.skip(f"the documents show what gdb {' and '.join(SAME_IN)} print, here is {version}")
    document = DOCUMENTS / name
    text = document.read_text("utf-8")
    assert BLOCK.search(text), f"{name} has no session"
    now = BLOCK.sub(lambda block: session(gdb, block[0], command), text)
    if request.config.getoption("--refresh-transcripts"):
        document.write_text(now, "utf-8")
        return
    assert now == text


def commands_of(step: str) -> list[list[str]]:
    """Return the commands in each column of the tutorial's table of steps: lines, screen, gdb, web page, Python."""
    text = (DOCUMENTS / "debugging.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {step} |")]
    return [re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")[1:]]


@pytest.mark.timeout(100)
def test_the_steps_of_the_tutorial_lead_to_the_same_instruction_in_lines_in_gdb_and_in_python(
    gdb: Callable[..., str], boot_demo: Callable[[str], System]
) -> None:
    steps = [commands_of(step) for step in ("to where its slot is taken", "next phase", "phase before")]
    script = "".join(
        "\n".join([*columns[2], "python print('AT', int(gdb.parse_and_eval('(unsigned)$pc')))", ""])
        for columns in steps
    )
    in_gdb = [
        int(found) for found in re.findall(r"^AT (\d+)$", gdb(f"{script}monitor clock\nkill\n", "df"), re.MULTILINE)
    ]
    with attach(boot_demo("df")) as debugger:
        prompt = Prompt(debugger.bench, io.StringIO())
        in_lines, taken = [], []
        for columns in steps:
            for line in columns[0]:
                prompt.line(line)
            in_lines.append(debugger.machine.cpu.eip)
            taken.append(debugger.machine.clock.retired)
    with attach(boot_demo("df")) as debugger:
        for _ in range(6):
            eval(steps[0][4][0], {"debugger": debugger})  # noqa: S307 - a line of our own document
        assert debugger.machine.clock.retired == taken[0]
        eval(steps[1][4][0], {"debugger": debugger})  # noqa: S307
        assert debugger.machine.clock.retired == taken[1]
    assert in_gdb == in_lines
    assert taken[2] == taken[0] < taken[1]


def test_the_position_that_the_tutorial_names_is_that_of_the_servers_write(boot_demo: Callable[[str], System]) -> None:
    text = (DOCUMENTS / "debugging.md").read_text("utf-8")
    (named,) = re.findall(r"`goto (\d+)` there is the server's write", text)
    with attach(boot_demo("df")) as debugger:
        debugger.run()
        debugger.go(int(named))
        assert str(debugger.bench.code.current()) == "mov dword ptr [esi + 0x18], ecx"
        assert (debugger.value("message.operation"), debugger.value("ecx")) == (Operation.FREE_SPACE, 4096)
        assert debugger.value("esi") >= USER_MESSAGES
