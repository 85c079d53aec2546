"""The shell's line editor on terminals of every width: rows, Tab lists, search, history; on a terminal of our own."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from callgate.disk.images.builder import create_image
from shell_editor import BACKSPACE, CTRL_G, CTRL_R, DELETE, DOWN, END, HOME, LEFT, PROMPT, RIGHT, TAB, UP, Editor
from small_terminal import SmallTerminal, columns_of


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Callable[..., Editor]]:
    folder = tmp_path / "files"
    (folder / "many").mkdir(parents=True)
    for number in range(101):
        (folder / "many" / f"name{number:03}").touch()
    for name in ("alpha", "alps"):
        (folder / name).touch()
    create_image(tmp_path / "a.img", folder)
    made: list[Editor] = []

    def make(width: int = 20, history: bytes | None = None) -> Editor:
        made.append(Editor(tmp_path / "a.img", width, history))
        return made[-1]

    yield make
    for one in made:
        one.system.close()


def expected(width: int, line: str, cursor: int) -> str:
    """Return the value of `Editor.shown` for a line; a cursor at the end of a full row waits after it."""
    return f"{PROMPT}{line[:cursor]}|{line[cursor:]}"


def after(line: str, cursor: int) -> int:
    """Return where the cursor is after the character at it, past the marks that the character has."""
    cursor = min(len(line), cursor + 1)
    while cursor < len(line) and columns_of(line[cursor]) == 0:
        cursor += 1
    return cursor


def before(line: str, cursor: int) -> int:
    """Return where the cursor is before the character that it stands after."""
    cursor = max(0, cursor - 1)
    while cursor and columns_of(line[cursor]) == 0:
        cursor -= 1
    return cursor


@pytest.mark.parametrize("width", [10, 15, 16, 40])
def test_a_typed_line_takes_as_many_rows_as_it_needs(
    editor: Callable[..., Editor], width: int, some_of: Callable[[range, int], list[int]]
) -> None:
    """Random keys: what the terminal shows is the line that a plain list of characters would be."""
    source, one = random.Random(width), editor(width)
    line, cursor = "", 0
    for _ in some_of(range(150), 3):
        key = source.choice(["insert"] * 6 + ["left", "right", "home", "end", "delete", "back"])
        if key == "insert" and len(line) < 60:
            letter = source.choice("abcäß日語🙂" + ("\u0301\u200d" if cursor else ""))
            line, cursor, typed = line[:cursor] + letter + line[cursor:], cursor + 1, letter
        elif key == "left":
            cursor, typed = before(line, cursor), LEFT
        elif key == "right":
            cursor, typed = after(line, cursor), RIGHT
        elif key == "home":
            cursor, typed = 0, HOME
        elif key == "end":
            cursor, typed = len(line), END
        elif key == "delete":
            line, typed = line[:cursor] + line[after(line, cursor) :], DELETE
        else:
            line, cursor, typed = line[: max(0, cursor - 1)] + line[cursor:], max(0, cursor - 1), BACKSPACE
        assert one.shown(typed) == expected(width, line, cursor), (key, line, cursor)
    rows = one.terminal.text[one.top :]
    assert all(sum(map(columns_of, row.replace("|", ""))) <= width for row in rows)


def test_output_begins_below_a_typed_line_of_several_rows(editor: Callable[..., Editor]) -> None:
    one = editor(10)
    one.type("echo " + "x" * 30 + HOME + "\r")
    text = one.terminal.text[one.top :]
    assert text == [
        "/d0> echo ",
        "xxxxxxxxxx",
        "xxxxxxxxxx",
        "xxxxxxxxxx",
        "xxxxxxxxxx",
        "xxxxxxxxxx",
        "xxxxxxxxxx",
        "/d0> |",
    ]


def test_a_new_terminal_width_is_used_from_then_on(editor: Callable[..., Editor]) -> None:
    one = editor(40)
    one.type("x" * 30)
    one.terminal = SmallTerminal(20)
    one.terminal.write(PROMPT + "x" * 30)  # as terminals do that span their rows anew
    one.top = 0
    assert one.shown("\x1b[8;0;20t" + HOME) == f"{PROMPT}|{'x' * 30}"
    assert one.terminal.text == [f"{PROMPT}|{'x' * 15}", "x" * 15]


def test_a_typed_line_is_shown_again_where_other_output_has_left_the_cursor(editor: Callable[..., Editor]) -> None:
    one = editor(10)
    one.type("echo abcdefgh")
    one.terminal.write("\nfg\n")
    one.top = one.terminal.row
    assert one.shown("\x1b[9;0;10t") == f"{PROMPT}echo abcdefgh|"


def test_a_tab_list_is_as_wide_as_the_terminal(editor: Callable[..., Editor]) -> None:
    for width, rows in ((10, ["alpha", "alps"]), (40, ["alpha  alps"])):
        one = editor(width)
        one.type("cat al" + TAB + TAB)
        assert one.terminal.text[one.top + 1 + (width == 10) : -1 - (width == 10)] == rows


def test_more_than_a_hundred_completions_are_shown_only_after_a_yes(editor: Callable[..., Editor]) -> None:
    one = editor(40)
    one.type("cat many/" + TAB)
    one.type(TAB)
    assert one.terminal.text[-1] == "show all 101 names? (y or n)|"
    one.type("n")
    assert one.terminal.text[-1] == f"{PROMPT}cat many/name|"
    one.type(TAB + "y")
    assert one.terminal.text[-1] == f"{PROMPT}cat many/name|"
    assert one.terminal.text[-2].startswith("name100")
    assert sum(row.count("name0") for row in one.terminal.text) == 100


HISTORY = b"echo one\necho two\ndir\nECHO three\n" + b"x" * 511 + b"\n"


def test_lines_of_earlier_sessions_come_back_and_can_be_searched(editor: Callable[..., Editor]) -> None:
    one = editor(40, HISTORY)
    assert one.shown(UP * 2) == f"{PROMPT}ECHO three|"
    assert one.shown(UP * 2 + DOWN) == f"{PROMPT}dir|"
    assert one.shown(CTRL_R + "ech") == "(search) 'ech' echo two|"
    assert one.shown(CTRL_R) == "(search) 'ech' echo one|"
    assert one.shown(CTRL_R) == "(search) 'ech' echo one|", "there is none before"
    assert one.terminal.bells == 1
    assert one.shown(BACKSPACE) == "(search) 'ec' echo two|"
    assert one.shown(HOME + LEFT) == f"{PROMPT}|echo two"
    assert one.shown(CTRL_R + "one" + CTRL_G) == f"{PROMPT}|"
    one.type(CTRL_R + "tw\r")
    assert one.terminal.text[-2:] == ["two", f"{PROMPT}|"]


def test_the_history_keeps_five_hundred_lines(editor: Callable[..., Editor]) -> None:
    lines = b"".join(b"echo %d\n" % number for number in range(600))
    one = editor(40, lines)
    assert one.shown(UP * 500) == f"{PROMPT}echo 100|"
    assert one.shown(UP) == f"{PROMPT}echo 100|"
    assert one.shown("\x15" + CTRL_R + "echo 1" + CTRL_R * 20).startswith("(search) 'echo 1' echo 1")
