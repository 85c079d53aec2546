"""The shell at a terminal: keys in, screen out, as over the serial line."""

import re

import pytest
from callgate.kernel.system import System, SystemOptions
from shell_console import BELL, FUEL, LEFT, NAMES, PROMPT, TAB, Console, render

OPERATORS = "shell: | < > & are not supported: no pipes, redirection or background; use ; between commands, or quotes\n"
LINE_LIMIT = 511


# Words that are not commands.


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("lss", "ls"), ("sl", "ls"), ("DRI", "dir"), ("caat", "cat"), ("hlep", "help"), ("ech", "echo"), ("ty", "type")],
)
def test_a_misspelt_command_is_answered_with_a_suggestion(console: Console, typed: str, meant: str) -> None:
    assert console.run(typed) == f"{typed}: no such command; did you mean {meant}?\n"
    assert console.run("echo $?") == "127\n"


@pytest.mark.parametrize("typed", ["ks", "t", "xyzzy", "sl/", '""'])
def test_no_command_is_suggested_when_none_or_several_are_near(console: Console, typed: str) -> None:
    name = typed.strip('"')
    assert console.run(typed) == f"{name}: no such command or program; type help\n"


# Completion.


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ca\t", "cat |"),
        ("HEL\t", "help |"),
        ("hell\t", "hello |"),
        ("  ec\t", "  echo |"),
        ("true;ty\t", "true;type |"),
        ("time ca\t", "time cat |"),
        ("cat rea\t", "cat README.TXT |"),
        ("cat re\t", "cat re|"),
        ("cat 2\t", "cat 2nd-|"),
        ("cd do\t", "cd docs/|"),
        ("cd do\tde\t", "cd docs/deep/|"),
        ("cat DOCS\\a\t", "cat DOCS\\a.txt |"),
        ("cat /d0/docs/c\t", "cat /d0/docs/c.bin |"),
        ("cat \\docs/../no\t", "cat \\docs/../notes |"),
        ("ls /r\t", "ls /rom/|"),
        ("cat /rom/h\t", "cat /rom/hello |"),
        ("cat /rom/H\t", "cat /rom/H|"),
        ("ls My\t", 'ls "My files"/|'),
        ("ls 'My f\t", 'ls "My files"/|'),
        ("cat My\ti\t", """cat "My files/it's.txt" |"""),
        ("cat My\tG\t", 'cat "My files/Größe.txt" |'),
        ("cat Um/\t", "cat Um/|"),
        ("cat it's\t", "cat it's|"),
        ("cat rea x" + LEFT * 2 + TAB, "cat README.TXT | x"),
        ("cat nothing\t", "cat nothing|"),
        ("cat nowhere/x\t", "cat nowhere/x|"),
        ("cat README.TXT/x\t", "cat README.TXT/x|"),
    ],
)
def test_tab_completes_commands_and_paths(console: Console, keys: str, line: str) -> None:
    assert console.line(keys) == line


@pytest.mark.parametrize("keys", ["cat nothing\t", "xyzzy\t", "cat nowhere/x\t", "e\t"])
def test_a_tab_without_a_completion_rings_the_bell_and_prints_nothing(console: Console, keys: str) -> None:
    assert console.type(keys) == keys.removesuffix(TAB) + BELL


@pytest.mark.parametrize("arguments", ["x", "-z", "-c", "-cecho", "-s x", "-i x", "-i 4x"])
def test_the_shell_started_with_what_it_does_not_know_shows_its_usage(console: Console, arguments: str) -> None:
    """Without its text, `-c` had run what lay behind the arguments in memory."""
    assert console.run(f"shell {arguments}") == "usage: shell [-i [COLUMNS] | -s | -c COMMANDS]\n"
    assert console.run("echo $?") == "2\n"


def test_a_command_with_too_few_or_too_many_words_shows_its_usage_and_does_nothing(console: Console) -> None:
    """As `help` states them: `[WORD]` may be left out, `WORD...` may be many."""
    tried = 0
    for row in console.run("help").splitlines()[1:-3]:
        name, form = row.split()[0], row[10:32].strip()
        words = re.sub(r"\[-\w+\]", "", form)  # no options
        fewest = len(re.sub(r"\[.*\]", "", words).split())
        most = len(words.split())
        wrong = [fewest - 1] * (fewest > 0) + [most + 1] * ("..." not in form and name not in {"time", "true", "false"})
        for count in wrong:
            assert console.run(f"{name} {' 1' * count}") == f"usage: {name} {form}".rstrip() + "\n", (name, count)
            assert console.run("echo $?") == "2\n"
            tried += 1
    assert tried == 18


def test_a_second_tab_shows_the_names_and_the_line_again(console: Console) -> None:
    rows = render(console.type("cat docs/\t\t"))
    assert rows == ["cat docs/", "a.txt  b.txt  c.bin  deep/", PROMPT + "cat docs/|"]
    assert console.line("b\t") == "cat docs/b.txt |"


def test_completions_are_shown_in_rows_that_fit_the_terminal(console: Console) -> None:
    rows = render(console.type("cat many/n\t\t"))
    assert max(map(len, rows)) <= 78
    assert " ".join(rows[1:-1]).split() == [f"name{number:02}.txt" for number in range(NAMES)]


def test_the_first_word_is_a_command_or_a_program(console: Console) -> None:
    rows = render(console.type("\t\t"))
    assert {"help", "exit", "hello", "crash"} <= set(" ".join(rows[1:-1]).split())
    assert "docs/" not in " ".join(rows[1:-1])


def test_the_parser_reads_the_name_that_tab_has_completed(console: Console) -> None:
    assert console.type("cat My\ti\t\r").endswith("\nquoted\n" + PROMPT)
    assert console.type("cd My\t\r").endswith("\n/d0/My files> ")


@pytest.mark.parametrize(("filling", "end"), [(495, "dee"), (495, "deep/"), (496, "dee"), (497, "dee")])
def test_a_completion_that_does_not_fit_the_line_is_refused(console: Console, filling: int, end: str) -> None:
    line = "echo " + "x" * filling + " docs/"
    completed = "deep/" if len(line) + 5 <= LINE_LIMIT else "dee"
    screen = console.type(line + end + TAB)
    assert render(screen)[-1] == f"{PROMPT if BELL not in screen else ''}{line}{completed}|"
    assert (BELL in screen) == (completed == "dee" or end == "deep/")


# Editing.


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("dri\x7f\x7fir", "dir|"),
        ("xy" + LEFT + "z", "xz|y"),
        ("xyz\x01\x04", "|yz"),
        ("xyz\x01\x1b[C\x0b", "x|"),
        ("one two\x17", "one |"),
        ("one two\x15", "|"),
        ("xyz\x1b[H\x1b[3~\x1b[F", "yz|"),
        ("echo ö\x7fx", "echo x|"),
        ("äöü" + LEFT * 2 + "\x1b[3~", "ä|ü"),
        ("a日本" + LEFT * 2 + "x", "ax|日本"),
        ("日" + LEFT * 5 + "\x1b[C\x1b[Cx", "日x|"),
        ("true\r" + "\x1b[A", "true|"),
    ],
)
def test_a_typed_line_can_be_edited(console: Console, keys: str, line: str) -> None:
    assert console.line(keys) == line


# Wildcards.


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("cat *.TXT", "readme\nreport\n"),
        ("cat *.txt", "readme\nreport\n"),
        ("type read*", "readme\n"),
        ("cat docs/?.txt notes", "a\nb\nno dot\n"),
        ("cat DOCS\\*.BIN", "c\n"),
        ("cat /d0/docs/a*", "a\n"),
        ("cat my*/x", "cat: my*/x: wildcards are for the last part of a path\n"),
        ("cat 'My files'/*", "size\nquoted\n"),
        ("cat 'My files'/Gr??e.txt", "size\n"),
        ("ls D*", "docs\n"),
        ("ls *.TXT docs/c.bin", "README.TXT\nREPORT.TXT\nc.bin\n"),
        ("ls docs/*.*", "a.txt\nb.txt\nc.bin\ndeep\n"),
        ("ls docs/*", "a.txt\nb.txt\nc.bin\ndeep\n"),
        ("ls /rom/h*", "hello\n"),
        ("ls /rom/H*", "ls: /rom/H*: no such file\n"),
        ("ls /*", "d0\nrom\n"),
        ("cat *.doc", "cat: *.doc: no such file\n"),
        ("ls ?", "ls: ?: no such file\n"),
        ("cat nowhere/*", "cat: nowhere/*: no such file or directory\n"),
        ("cat '*.TXT'", "cat: *.TXT: no such file or directory\n"),
        ('cat "READ"*', "readme\n"),
        ("echo *.TXT what?", "*.TXT what?\n"),
        ("hello docs/*.txt", "hello from ring 3, arguments: docs/a.txt docs/b.txt\n"),
        ("hello *.doc", "hello: *.doc: no such file\n"),
        ("hello '*.TXT'", "hello from ring 3, arguments: *.TXT\n"),
        ("cd read*", "cd: README.TXT: not a directory\n"),
        ("cd *.txt", "cd: README.TXT is not the only name that matches\n"),
    ],
)
def test_wildcards_stand_for_the_names_that_match(console: Console, command: str, output: str) -> None:
    assert console.run(command) == output


def test_type_star_dot_star_gives_every_file(console: Console) -> None:
    assert console.run("type docs/*.*") == "a\nb\nc\ntype: docs/deep: is a directory\n"


def test_a_directory_may_be_named_by_its_beginning(console: Console) -> None:
    assert console.type("cd do*\r").endswith("/d0/docs> ")


def test_dir_counts_what_matches(console: Console) -> None:
    rows = console.run("dir docs/*.txt").splitlines()
    assert rows[0] == "Directory of /d0/docs"
    assert [row.split()[-1] for row in rows[1:3]] == ["a.txt", "b.txt"]
    assert rows[3].split() == ["2", "file(s)", "4", "bytes"]


@pytest.mark.thorough(only=True)
def test_a_wildcard_expands_to_as_many_names_as_there_is_room_for(console: Console) -> None:
    most = (1024 - 1) // NAMES
    expected = "".join(f"{number}\n" for number in range(NAMES)) * most
    assert console.run("cat" + " many/*" * most) == expected
    refusal = "cat: many/*: too many names; at most 1024, 64 KiB in all\n"
    assert console.run("cat" + " many/*" * (most + 1)) == refusal
    assert console.run("cat notes") == "no dot\n"


def test_wildcard_expansion_unlocks_every_directory_that_it_locks(console: Console) -> None:
    shell = console.system.thread("shell").process
    before = list(shell.windows)
    for command in ("cat *.TXT", "cat none*", "cat" + " many/*" * 20, "ls none*", "ls README.TXT", "cat d\t\t\x15"):
        console.type(command + "\r")
    assert (shell.locks, list(shell.windows)) == ({}, before)


# What people type by habit, and by mistake.


@pytest.mark.parametrize(
    ("command", "output", "status"),
    [
        ("ls | more", OPERATORS, 2),
        ("echo a > x; echo b", OPERATORS, 2),
        ("cat < x", OPERATORS, 2),
        ("true && false", OPERATORS, 2),
        ("echo '|' \"<>&\"", "| <>&\n", 0),
        ("echo don't; echo never", "shell: a quote is not closed\n", 2),
        ('echo "a  b"', "a  b\n", 0),
        ("echo", "\n", 0),
        ("echo -n", "", 0),
        ("echo '*' \"?\"", "* ?\n", 0),
        ("cat", "usage: cat FILE...\n", 2),
        ("TYPE", "usage: type FILE...\n", 2),
        ("time", "usage: time COMMAND\n", 2),
        ("pwd /", "usage: pwd\n", 2),
        ("cd a b", "usage: cd [PATH]\n", 2),
        ("ls -x", "usage: ls [-l] [PATH...]\n", 2),
        ("exit 1 2", "usage: exit [N]\n", 2),
        ("exit abc", "exit: the status is a number\n", 2),
        ("cd nowhere", "cd: nowhere: no such file or directory\n", 1),
        ("cd README.TXT", "cd: README.TXT: not a directory\n", 1),
        ("cat docs", "cat: docs: is a directory\n", 1),
        ("cat ''", "cat: : is a directory\n", 1),
        ("ls README.TXT", "README.TXT\n", 0),
        ("ls README.TXT/", "ls: README.TXT/: not a directory\n", 1),
        ("ls docs/deep nowhere notes", "/d0/docs/deep:\nls: nowhere: no such file or directory\nnotes\n", 1),
        ("cd /; cd d0; pwd; cd docs; pwd; cd ../..; pwd; cd \\d0", "/d0\n/d0/docs\n/\n", 0),
        ("vol docs", "vol: docs: no such volume\n", 1),
        ("cd /rom; vol; cd /d0", "volume /rom, label ROM\nserial number 00000000, file system rom\n", 0),
        ("vol ROM", "volume /rom, label ROM\nserial number 00000000, file system rom\n", 0),
        ("docs", "docs: is a directory\n", 1),
        ("notes", "notes: not an executable of this system\n", 1),
        (";;  ; # nothing", "", 0),
    ],
)
def test_unsupported_syntax_and_mistakes_have_a_clear_answer(
    console: Console, command: str, output: str, status: int
) -> None:
    assert console.run(command) == output
    assert console.run("echo $?") == f"{status}\n"


def test_vol_at_the_root_shows_every_volume(console: Console) -> None:
    lines = console.run("cd /; vol; cd d0").splitlines()
    assert [line.partition(",")[0] for line in lines[::2]] == ["volume /rom", "volume /d0"]


def test_input_that_does_not_fit_the_line_rings_the_bell_and_leaves_the_line_intact(console: Console) -> None:
    screen = console.type("echo " + "x" * 600)
    assert screen.count(BELL) == 605 - LINE_LIMIT
    assert console.type("\r") == "\n" + "x" * (LINE_LIMIT - 5) + "\n" + PROMPT


def test_half_a_line_of_a_script_is_not_run() -> None:
    """What came through a pipe cannot be seen and mended: the line is refused, the next one counts."""
    lines = [b"echo " + b"x" * 600 + b"\n", b"echo $?\n", b"echo " + b"y" * 506 + b"\n"]
    data = bytearray(b"".join(lines))

    def read(size: int) -> bytes:
        piece = bytes(data[:size])
        del data[:size]
        return piece

    output: list[bytes] = []
    with System([], SystemOptions(output=output.append, source=read)) as system:
        system.run(fuel=FUEL)
    assert b"".join(output) == b"shell: a line has at most 511 bytes\n2\n" + b"y" * 506 + b"\n"
