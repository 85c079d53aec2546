"""The debugger in a terminal that is not ours: tmux shows it, takes keys, and tells how the terminal was left."""

import re
import signal
from pathlib import Path

import pytest
from debugger_terminal import Terminal

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 60), marks=pytest.mark.thorough(only=True))])
def test_the_screen_opens_on_a_terminal_and_leaves_it_as_it_was(terminal: Terminal, size: tuple[int, int]) -> None:
    terminal.debug("-c", "df", size=size)
    terminal.sees("instruction 0 |")
    terminal.press("p")
    terminal.sees("[take]fill")
    terminal.press(":")
    terminal.press("-l", "goto 5")
    terminal.press("Enter")
    terminal.sees("instruction 5, in the past")
    assert COLOUR.search(terminal.shown("-e"))
    terminal.escape()
    terminal.press("q")
    assert terminal.left() == 0


@pytest.mark.thorough(only=True)
def test_without_colour_the_screen_still_marks_the_phase_and_a_kill_leaves_the_terminal_as_it_was(
    terminal: Terminal,
) -> None:
    terminal.debug("-c", "df", NO_COLOR="1")
    terminal.sees("instruction 0 |")
    terminal.press("p")
    terminal.sees("[take]fill")
    screen = terminal.shown("-e")
    assert COLOUR.search(screen) is None
    assert "\x1b[1m" in screen or "\x1b[7m" in screen
    terminal.signal(signal.SIGKILL)
    assert terminal.left() == 128 + signal.SIGKILL


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
    ],
)
def test_a_signal_that_ends_the_debugger_leaves_the_terminal_as_it_was(
    terminal: Terminal, number: signal.Signals, status: int
) -> None:
    terminal.debug("-c", "df")
    terminal.sees("instruction 0 |")
    terminal.signal(number)
    assert terminal.left() == status


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("case", ["no textual", "plain", "dumb"])
def test_lines_come_instead_of_the_screen_where_it_is_not_wanted_or_cannot_be(
    terminal: Terminal, tmp_path: Path, case: str
) -> None:
    (tmp_path / "textual").mkdir()
    (tmp_path / "textual" / "__init__.py").write_text("raise ImportError('too old')")
    environment = {"dumb": {"TERM": "dumb"}, "no textual": {"PYTHONPATH": str(tmp_path)}}.get(case, {})
    terminal.debug(*(["--plain"] if case == "plain" else []), **environment)
    terminal.sees("(callgate)")
    assert ("no screen, since Textual cannot be used (too old); lines follow" in terminal.shown()) == (
        case == "no textual"
    )
    terminal.press("-l", "quit")
    terminal.press("Enter")
    assert terminal.left() == 0


def test_only_the_room_of_the_screen_imports_textual_and_nothing_imports_that_room_at_its_start() -> None:
    tools = Path(__file__).parents[3] / "tools"
    importing = re.compile(r"^\s*(from|import) (textual|rich)\b", re.MULTILINE)
    importers = [path for path in tools.rglob("*.py") if importing.search(path.read_text("utf-8"))]
    assert {path.relative_to(tools).parts[:2] for path in importers} == {("debugger", "screen")}
    assert tools / "debugger" / "screen" / "opening.py" not in importers


@pytest.mark.thorough(only=True)
def test_the_mouse_of_a_terminal_goes_along_the_time_line_and_sets_a_breakpoint(terminal: Terminal) -> None:
    terminal.debug("-c", "df")
    terminal.sees("instruction 0 |")
    assert terminal.mouse_is_wanted()
    terminal.press(":")
    terminal.press("-l", "until ipc_request")
    terminal.press("Enter")
    terminal.until(lambda: any("=>" in row and "pushad" in row for row in terminal.shown().splitlines()))
    terminal.escape()
    rows = terminal.shown().splitlines()
    line = next(row for row, text in enumerate(rows) if "=>" in text)
    terminal.click(0, line)
    terminal.until(lambda: terminal.shown().splitlines()[line].startswith("●"))
    terminal.click(0, next(row for row, text in enumerate(rows) if text.startswith("DDDD")))
    terminal.sees(", in the past | no thread yet")
    terminal.press("q")
    assert terminal.left() == 0
