"""The shell's line editor with characters of two columns and of none, and with bytes that are not characters."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.servers import volumes
from shell_editor import BACKSPACE, CTRL_R, DELETE, END, HOME, LEFT, PROMPT, RIGHT, TAB, UP, Editor
from small_terminal import SmallTerminal, columns_of
from tmux_screen import TmuxScreen

ACUTE = "\u0301"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in ("語語語語.one", "語語語語.two", "語語語語.six", f"n{ACUTE * 9}x", f"n{ACUTE * 9}y"):
        (folder / name).touch()
    (folder / "日本").mkdir()
    create_image(folder.with_suffix(".img"), folder)
    return folder.with_suffix(".img")


@pytest.fixture
def editor(image: Path) -> Iterator[type[Editor]]:
    made: list[Editor] = []

    class Closed(Editor):
        def __init__(self, width: int, history: bytes | None = None, listener=len) -> None:
            super().__init__(image, width, history, listener)
            made.append(self)

    yield Closed
    for one in made:
        one.system.close()


def test_a_wide_character_that_does_not_fit_goes_to_the_next_row_whole(editor) -> None:
    one = editor(10)
    one.type("abcd語x")
    assert one.terminal.text[one.top :] == [f"{PROMPT}abcd", "語x|"]
    one.type(LEFT * 2)
    assert one.terminal.text[one.top :] == [f"{PROMPT}abcd", "|語x"]
    one.type(LEFT + DELETE)
    assert one.terminal.text[one.top :] == [f"{PROMPT}abc|語", "x"], "it fits now"
    one.type(END + BACKSPACE)
    assert one.terminal.text[one.top :] == [f"{PROMPT}abc語|"]
    one.type(ACUTE + "z")
    assert one.terminal.text[one.top :] == [f"{PROMPT}abc語{ACUTE}", "z|"]


def test_combining_marks_move_with_their_character_and_backspace_deletes_them_one_by_one(editor) -> None:
    one, e = editor(20), f"e{ACUTE}\u0323"
    assert one.shown(f"x{e}y") == f"{PROMPT}x{e}y|"
    assert one.shown(LEFT * 2) == f"{PROMPT}x|{e}y"
    assert one.shown(RIGHT) == f"{PROMPT}x{e}|y"
    assert one.shown(BACKSPACE) == f"{PROMPT}xe{ACUTE}|y"
    assert one.shown(LEFT + DELETE) == f"{PROMPT}x|y"


def test_a_combining_mark_at_the_beginning_of_a_line_joins_the_prompt(editor) -> None:
    one = editor(6)
    assert one.shown(ACUTE + "xy") == f"{PROMPT}{ACUTE}xy|"
    assert one.shown(HOME) == f"{PROMPT}{ACUTE}|xy"
    assert one.shown(END + BACKSPACE * 3) == f"{PROMPT}|"
    one = editor(5)
    assert one.shown(ACUTE + HOME) == f"{PROMPT[:-1]}| {ACUTE}", "after the last column no sequence leads"


def test_nothing_of_a_character_is_shown_before_it_is_whole(editor) -> None:
    one = editor(20)
    for character in "ß語🙂":
        data = character.encode()
        before = one.again()
        for byte in data[:-1]:
            assert one.shown(bytes([byte])) == before
        assert one.shown(data[-1:]) == before.replace("|", f"{character}|")
    assert one.shown(b"\xe6") == f"{PROMPT}ß語🙂|"
    assert one.again() == f"{PROMPT}ß語🙂?|"
    assert one.shown(b"\xa5") == f"{PROMPT}ß語🙂?|"
    assert one.shown(b"\x97") == f"{PROMPT}ß語🙂楗|", "its first bytes are no longer question marks"


PIECES = [b"a", b" ", "日".encode(), "🙂".encode(), ACUTE.encode(), "\u200d".encode(), "\u2028".encode()]
PIECES += [b"\x80", b"\xbf", b"\xc0\x80", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xc2\x9b"]
PIECES += [b"\xe6", b"\xe6\x97", b"\xf0\x9f\x99", b"\xc3"]


def visible(data: bytes) -> str:
    """Return how bytes look: a question mark for each that is part of no character, and for what does not print."""
    characters = data.decode("utf-8", "surrogateescape")
    return "".join(one if one.isprintable() or one == "\u200d" else "?" for one in characters)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("width", [9, 16])
def test_bytes_that_are_not_characters_take_one_column_each(editor, width: int) -> None:
    """Bytes typed at random places of the line: what is shown is what Python decodes, with the cursor in its place."""
    dice, one = random.Random(width), editor(width)
    for _ in range(12):
        line = b""
        for _ in range(8):
            piece = dice.choice(PIECES)
            if dice.random() < 0.4:
                one.type(HOME)
                line = piece + line
            else:
                one.type(END)
                line += piece
            one.type(piece)
            one.again()
            shown = "".join(one.terminal.text[one.top :]).replace("|", "")
            assert shown == PROMPT + visible(line), line
        assert one.shown(HOME).replace(ACUTE, "").replace("\u200d", "").startswith(f"{PROMPT}|")
        for _ in range(len(line)):
            one.type(RIGHT)
        assert one.again() == f"{PROMPT}{visible(line)}|"
        for _ in range(len(line)):
            one.type(BACKSPACE)
        assert one.again() == f"{PROMPT}|"


def test_deleting_what_separates_bytes_may_combine_them_into_a_character(editor) -> None:
    one = editor(20)
    assert one.shown(b"\xe6x\x97\xa5") == f"{PROMPT}?x??|"
    assert one.shown(LEFT * 3 + DELETE) == f"{PROMPT}日|", "the cursor is within it, and shown after it"
    assert one.shown(END) == f"{PROMPT}日|"
    assert one.shown(BACKSPACE) == f"{PROMPT}|"


def test_control_characters_of_an_earlier_line_are_question_marks(editor) -> None:
    one = editor(40, "echo \x1b[2J\x07\u0085日\n".encode())
    assert one.shown(UP) == f"{PROMPT}echo ?[2J??日|"
    assert one.shown(LEFT * 2) == f"{PROMPT}echo ?[2J?|?日"
    assert one.shown(CTRL_R + "日") == "(search) '日' echo ?[2J??日|"
    assert one.terminal.bells == 0


def test_a_line_takes_no_half_of_a_character_when_it_is_full(editor) -> None:
    one = editor(40)
    one.type("x" * 509 + "日" + "é")
    assert one.shown("").count("x") == 509
    assert one.again() == f"{PROMPT}{'x' * 509}é|"
    assert one.terminal.bells == 3, "one for each byte of the character that had no room"
    one.type("é")
    assert one.again() == f"{PROMPT}{'x' * 509}é|"


def test_the_history_search_is_as_wide_as_the_text_that_is_searched_for(editor) -> None:
    one = editor(18, "echo 日本語\n".encode())
    one.type(CTRL_R + "日")
    assert one.terminal.text[one.top :] == ["(search) '日' echo", " 日本語|"]
    one.type("本")
    assert one.terminal.text[one.top :] == ["(search) '日本' ec", "ho 日本語|"]
    assert one.shown(HOME) == f"{PROMPT}|echo 日本語"


def test_a_directory_with_a_wide_name_makes_a_wide_prompt(editor) -> None:
    one = editor(14)
    one.type("cd 日本\r")
    one.top = one.terminal.row
    one.type("abc語")
    assert one.terminal.text[one.top :] == ["/d0/日本> abc", "語|"]
    one.type(HOME + "x")
    assert "".join(one.terminal.text[one.top :]) == "/d0/日本> x|abc語"


def test_a_tab_list_counts_the_columns_of_its_names(editor) -> None:
    for width, rows in (
        (40, ["語語語語.one  語語語語.six", "語語語語.two"]),
        (28, ["語語語語.one", "語語語語.six", "語語語語.two"]),
    ):
        one = editor(width)
        one.type("cat 語" + TAB + TAB)
        shown = [row for row in one.terminal.text[one.top + 1 :] if row.startswith("語語語語.")]
        assert shown == rows
    one = editor(20)
    one.type("cat n" + TAB + TAB)
    assert f"n{ACUTE * 9}x  n{ACUTE * 9}y" in one.terminal.text


def test_a_new_width_and_cursor_row_take_wide_characters_into_account(editor) -> None:
    one = editor(40)
    one.type("日本語日本語")
    one.terminal = SmallTerminal(10)
    one.terminal.write(f"{PROMPT}日本語日本語")
    one.top = 0
    one.type("\x1b[8;0;10t" + HOME)
    assert one.terminal.text == [f"{PROMPT}|日本", "語日本語"]
    one.terminal.write("\n\nfg\n")
    one.top = one.terminal.row
    one.type("\x1b[9;0;10t" + END)
    assert one.terminal.text[one.top :] == [f"{PROMPT}日本", "語日本語|"]


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("width", [13, 20])
def test_tmux_shows_what_the_small_terminal_shows(editor, tmp_path: Path, width: int) -> None:
    """Random keys: rows and cursor of tmux are those of the terminal of the other tests."""
    with TmuxScreen(tmp_path / "tmux", width) as screen:
        dice, one = random.Random(width), editor(width, None, screen.write)
        letters = f"ab日本🙂ß{ACUTE}한ｱＡ"
        for _ in range(40):
            one.type(dice.choice([*letters * 2, LEFT, LEFT, RIGHT, HOME, END, DELETE, BACKSPACE]))
            small = one.terminal
            rows = ["".join(row).rstrip() for row in small.rows]
            assert screen.rows()[: len(rows)] == rows
            assert screen.cursor() == (small.column, small.row)


@pytest.mark.parametrize("kind", ["größe", "名前", f"e{ACUTE}xt", "a\x1b[2J"])
def test_df_lines_its_columns_up_whatever_a_server_calls_its_file_system(
    boot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "probe", classmethod(lambda _cls, _first: kind))
    heading, *rows = boot("df", MemoryMedium(synthetic.disk(64))).output.decode().splitlines()
    assert [row.split()[0] for row in rows] == ["/rom", "/d0"]
    assert rows[1].split()[1] == kind.replace("\x1b", "?")
    assert len({sum(map(columns_of, row)) for row in (heading, *rows)}) == 1
