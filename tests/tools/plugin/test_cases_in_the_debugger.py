"""`callgate debug FILE.asm::CASE`: a case is opened without pytest, in lines, on the screen and in an editor."""

import re
from pathlib import Path

import pytest
from callgate.tools.cli.debugging.systems import case_run, recorded
from debugger_screen import Driven, drive

CASES = """
count:  mov     ecx, eax
again:  .event  counted left=ecx
        call    add_one
        loop    again
        ret
add_one:
        inc     dword [0x20000]
        ret

;@ case the sum is kept
;@   each    (start, sum) = (3, 3), (5, 6)
;@   set     eax = start
;@   call    count
;@   expect  [0x20000] = sum

;@ case a page is protected
;@   protect 0x20000 = r
;@   ring    3
;@   call    add_one
;@   expect  fault = #PF 0x7 at 0x20000
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "test_count.asm"
    path.write_text(CASES)
    return path


def shown(command_line, *arguments: str):
    return command_line("debug", *(str(argument) for argument in arguments), "-e", "quit")


def test_a_case_that_does_not_hold_says_so_and_stands_at_its_call(command_line, file):
    lines = ("back stepi", "break counted", "continue", "events", "bt", "goto end", "why -c [0x20000]")
    done = shown(command_line, f"{file}::the sum is kept[start=5,sum=6]", *(x for line in lines for x in ("-e", line)))
    assert "the case does not hold: [0x20000] is 5, expected = 6; `goto end` leads there" in done.messages
    output = done.stdout.decode()
    assert output.splitlines()[1] == "  0x00400000 <count>  mov ecx, eax"
    assert "this is the beginning of the history" in output
    assert "counted left=0x5" in output
    assert "<again+0x7>  ret" in output
    assert "<add_one>  inc dword ptr [0x20000]" in output


def test_a_case_that_holds_can_be_walked_too(command_line, file):
    done = shown(command_line, f"{file}::a page is protected", "-e", "stepi", "-e", "walk 0x20000")
    assert "does not hold" not in done.messages
    output = done.stdout.decode()
    assert "ring 3" in output
    assert "#PF 0x7 at 0x20000: there is no IDT, and the call ends here" in output
    assert "user, read-only" in output


def test_the_session_that_docs_testing_shows_is_what_the_debugger_prints(host_line):
    document = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
    command, *expected = re.search(r"    \$ (callgate debug .*\n(?:    .*\n)+)", document)[1].splitlines()
    for name in ("double.asm", "test_double.asm"):
        text = document.split(f"<!-- file: {name} -->\n```asm\n")[1].split("```")[0]
        Path(name).write_text(text.replace("eax = 42, CF = 0", "eax = 43, CF = 0"))
    done = host_line(command)
    assert done.status == 0
    assert done.stdout.decode().splitlines() == [line[4:] for line in expected[1:]]
    assert done.messages.splitlines() == [expected[0][4:]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("", None, "has 3 cases; name one: "),
        ("::the sum is kept", None, "has no case 'the sum is kept'; there is "),
        ("::a page", None, "has no case 'a page'; there is "),
        ("", "f: ret\n", "has no case; docs/testing.md says how one is written"),
        ("", "f: ret\n;@ case it\n;@ call g\n;@ expect eax = 0\n", "there is no routine g"),
        ("", "f: rett\n;@ case it\n;@ call f\n;@ expect eax = 0\n", "rett"),
        ("", "f: ret\n;@ case it\n;@ fixture x\n;@ call f\n;@ expect eax = 0\n", "asks for a fixture of pytest"),
        ("", ";@ object no.o\n;@ case it\n;@ call f\n;@ expect eax = 0\n", "no.o"),
        ("", '.include "none.inc"\nf: ret\n;@ case it\n;@ call f\n;@ expect eax = 0\n', "none.inc"),
    ],
)
def test_a_case_that_cannot_be_opened_is_refused_by_its_name(command_line, file, name, text, message):
    if text is not None:
        file.write_text(text)
    done = shown(command_line, f"{file}{name}")
    assert done.status == 5
    assert message in done.messages
    assert "Traceback" not in done.messages


def test_a_file_of_cases_that_is_missing_is_refused(command_line, tmp_path):
    done = shown(command_line, tmp_path / "none.asm")
    assert done.status == 5
    assert "none.asm cannot be read: No such file or directory" in done.messages


def test_options_of_a_machine_are_refused_beside_a_case(command_line, file):
    done = shown(command_line, f"{file}::a page is protected", "--memory", "64M")
    assert done.status == 2
    assert "--memory: a recording has its own options" in done.messages


def test_the_screen_shows_a_case_and_walks_it_both_ways(file):
    async def scenario(driven: Driven) -> None:
        assert "mov     ecx, eax" in driven.shown("code")
        await driven.press("i", "i", "i")
        assert driven.app.picture is not None
        inside = driven.retired, driven.app.picture.values
        await driven.press("i", "I")
        assert (driven.retired, driven.app.picture.values) == inside
        for pane in "1234567":
            await driven.press(pane)
        await driven.enter("slots")
        await driven.press("8")
        assert "error: this machine has no kernel" in driven.shown("output")

    drive(recorded(case_run(Path(f"{file}::the sum is kept[start=3,sum=3]")), ()), scenario)
