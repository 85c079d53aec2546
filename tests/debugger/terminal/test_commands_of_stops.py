"""`commands N` … `end`: lines that are carried out after a stop has ended a run."""

import io
from pathlib import Path

import pytest
from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.commands.prompt import Prompt, ScriptError
from callgate.tools.debugger.screen.session import Session
from callgate.tools.debugger.terminal.conversation import converse
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said


def give(prompt: Prompt, *lines: str) -> None:
    """Carry lines out one after the other."""
    for line in lines:
        said(prompt, line)


def test_lines_of_a_stop_are_carried_out_after_each_run_that_it_ends_and_are_listed(prompt: Prompt) -> None:
    give(prompt, "break ipc.take", "commands 1", "print thread", "# no line", "", "print esp", "end")
    assert said(prompt, "info break").splitlines()[1:] == ["       print thread", "       print esp"]
    for line in ("continue", "sb 99999", "back continue"):
        first, *_, thread, esp = said(prompt, line).splitlines()
        assert first.startswith("stop 1: event ipc.take")
        debuggee = prompt.desk.bench.debuggee
        values = debuggee.threads.running().number, debuggee.machine.cpu.esp
        assert (thread, esp) == tuple(f"{value:#x} = {value}" for value in values)
    give(prompt, "commands 1", "end")
    assert "= " not in said(prompt, "continue").splitlines()[-1], "with none it has none from then on"


def test_silent_says_nothing_of_the_stop_and_continue_runs_on_to_the_next_whose_lines_follow(prompt: Prompt) -> None:
    give(prompt, "break ipc.take if thread == 12", "commands", "silent", "print thread", "continue", "print 99", "end")
    give(prompt, "break ipc.reply if op == FREE_SPACE and thread == 11", "commands", "silent", "print thread", "end")
    rows = said(prompt, "continue").splitlines()
    assert rows[-1] == "0xb = 11"
    assert len(rows) > 2
    assert set(rows[:-1]) == {"0xc = 12"}, "what comes after a line that runs on is left out"


def test_many_stops_that_run_on_do_not_nest(prompt: Prompt) -> None:
    give(prompt, "until take_slot", "awatch [esp-400] length 400", "commands", "silent", "continue", "end")
    assert said(prompt, "sb 9999").startswith("the system has ended with status 0")
    assert prompt.desk.bench.stops.known[2].hits > 200, "each would take some of Python's 1,000 frames"


def test_stops_for_once_and_those_with_another_condition_keep_their_lines(prompt: Prompt) -> None:
    give(prompt, "tbreak ipc.take", "commands 1", "silent", "print 41 + 1", "end", "condition 1 thread == 12")
    assert said(prompt, "continue") == "0x2a = 42\n"
    assert said(prompt, "info break") == "no stops\n"


def test_an_error_names_the_stop_and_the_line_and_ends_the_lines(prompt: Prompt) -> None:
    give(prompt, "break ipc.take", "commands 1", "silent", "print [0x90000000]", "print 7", "end")
    with pytest.raises(CommandError, match=r"^commands of stop 1: 'print \[0x90000000\]': .*no memory is mapped there"):
        said(prompt, "continue")
    assert prompt.output.getvalue() == "", "nothing after it"  # type: ignore[attr-defined]
    assert said(prompt, "print 1") == "0x1 = 1\n", "and none are left over"


def test_quit_among_the_lines_leaves_the_debugger(prompt: Prompt) -> None:
    give(prompt, "break ipc.take", "commands 1", "silent", "quit", "print 7", "end")
    assert said(prompt, "continue") == ""
    assert prompt.desk.ended


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("commands",), "commands for which stop? none is set"),
        (("commands 3",), "no stop 3; there is none"),
        (("commands x",), "commands [N]: the number of a stop"),
        (("end",), "end ends the lines of `commands N`, "),
        (("silent",), "silent is the first line of a stop's commands"),
        (("comands 1",), "no command 'comands'; did you mean commands?"),
        (("break ipc.take", "commands", "prnt eax"), "no command 'prnt'; did you mean print?"),
        (
            ("break ipc.take", "commands", "print eax", "silent"),
            "silent is the first line of a stop's commands, or none",
        ),
        (("break ipc.take", "commands", "commands 1"), "commands of a stop cannot give commands to one"),
    ],
)
def test_lines_that_cannot_be_a_stops_commands_are_refused_where_they_are_given(
    prompt: Prompt, lines: tuple[str, ...], told: str
) -> None:
    give(prompt, *lines[:-1])
    with pytest.raises(CommandError) as error:
        prompt.line(lines[-1])
    assert str(error.value).startswith(told)


def test_scripts_lines_of_the_command_line_and_standard_input_give_lines_up_to_end(
    bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "s.txt"
    script.write_text("break ipc.take\ncommands 1\n  silent\n  print 1 + 1\nend\n")
    given = ["break ipc.fill", "commands 2", "silent", "print 2 + 2", "end"]
    converse(bench, given, [script], io.StringIO("break ipc.post\ncommands\nsilent\nprint 3 + 3\nend\n" + "c\n" * 4))
    values = [row for row in capsys.readouterr().out.splitlines() if " = " in row]
    assert values[:3] == ["0x2 = 2", "0x4 = 4", "0x6 = 6"]


def test_where_end_is_missing_the_stop_gets_no_lines_and_that_is_said(
    bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "s.txt"
    script.write_text("break ipc.take\ncommands 1\nprint 1\n")
    with pytest.raises(ScriptError, match=r"s\.txt: commands 1: `end` is missing after them"):
        converse(bench, [], [script], io.StringIO())
    with pytest.raises(CommandError, match="commands 1: `end` is missing"):
        converse(bench, ["commands 1", "print 1"], [], io.StringIO())
    converse(bench, [], [], io.StringIO("commands 1\nprint 1\n"))
    assert capsys.readouterr().out.endswith(
        "error: commands 1: `end` is missing after them; the stop has got none of them\n"
    )
    assert bench.stops.known[1].commands == ()


def test_an_error_in_a_script_names_its_line_and_that_of_the_stop(bench: Workbench, tmp_path: Path) -> None:
    script = tmp_path / "s.txt"
    script.write_text("break ipc.take\ncommands 1\nprint [0x90000000]\nend\ncontinue\n")
    with pytest.raises(ScriptError, match=r"s\.txt:5: commands of stop 1: 'print \[0x90000000\]': "):
        converse(bench, [], [script], io.StringIO())


def test_a_key_of_the_screen_is_no_line_for_a_stop(bench: Workbench) -> None:
    told: list[str] = []
    session = Session(bench, lambda line, _role: told.append(line), lambda _picture: None)
    for line in ("break ipc.take", "commands", "silent"):
        session.line(line)
    session.key("stepi")
    session.toggle(0x1000)
    assert told[1:] == [
        "error: stepi: lines for stop 1 are being given: `end` ends them",
        "error: break 0x1000: lines for stop 1 are being given: `end` ends them",
    ]
    session.line("end")
    session.key("stepi")
    assert bench.stops.known[1].commands == ("silent",)
    assert bench.machine.clock.retired == 1


def test_tab_completes_the_words_for_stops_and_help_shows_them_with_examples(prompt: Prompt) -> None:
    assert [completions(text, text) for text in ("comm", "igno", "sile", "en")] == [
        ["commands "],
        ["ignore "],
        ["silent "],
        ["en ", "enable ", "end "],
    ]
    assert "  example: silent\n" in said(prompt, "help commands")
    assert "  example: ignore 1 5\n" in said(prompt, "help ignore")
