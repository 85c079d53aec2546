"""Ctrl-C and breaks: the programs that they end, and those that they do not."""

from collections.abc import Callable

import pytest
from callgate.kernel.abi import limits
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.tasks import shares
from shell_console import CTRL_C, FUEL, PROMPT, Console, render

CAT_STEP = 2_000  # instructions, in which not all of `cat big big` is written

# Ctrl-C.


def test_ctrl_c_at_the_prompt_gives_up_the_line(console: Console) -> None:
    assert render(console.type("cat READ" + CTRL_C)) == ["cat READ^C", PROMPT + "|"]
    assert console.run("echo $?") == "130\n"


def test_a_break_at_the_prompt_is_ctrl_c(console: Console) -> None:
    console.type("cat READ")
    assert console.press_ctrl_c() == "^C\n" + PROMPT
    assert console.run("echo good") == "good\n"


def test_a_break_drops_what_was_typed_ahead(console: Console) -> None:
    console.system.machine.serial.feed(b"echo never\r")
    assert console.press_ctrl_c() == "^C\n" + PROMPT


@pytest.mark.parametrize("name", ["spin", "sink", "time spin", "shell"])
def test_ctrl_c_ends_the_program_that_runs(console: Console, name: str) -> None:
    command = f"{name}; echo never"
    assert console.type(command + "\r", fuel=3_000_000) == command + "\n"
    assert console.press_ctrl_c().endswith("^C\n" + PROMPT)
    assert console.run("echo $?") == "130\n"
    assert "spin" not in console.run("ps")


def test_ctrl_c_ends_a_program_that_has_all_the_memory_threads_and_files_it_may_have(console: Console) -> None:
    console.type("hog\r")
    kernel = console.system.kernel
    (hog,) = (process for process in kernel.state.tasks.processes.values() if process.name == "hog")
    half = kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART
    assert (len(hog.threads), len(hog.files)) == (limits.THREADS_OF_PROCESS, limits.FILES_OF_PROCESS)
    assert half - 32 < shares.frames_of(hog) <= half
    assert console.press_ctrl_c().endswith("^C\n" + PROMPT)
    assert console.run("cat notes; hello").startswith("no dot\n")
    assert "hog" not in console.run("ps")


def test_ctrl_c_ends_the_innermost_program_only(console: Console) -> None:
    console.type("shell -i\r")
    console.type("spin\r", fuel=3_000_000)
    assert console.press_ctrl_c() == "^C\n" + PROMPT
    assert console.run("ps").count(" shell\n") == 2
    assert console.type("exit\r").endswith(PROMPT)
    assert console.run("ps").count(" shell\n") == 1


def test_ctrl_c_ends_cat_between_two_pieces(console: Console) -> None:
    command = "cat big big; echo never"
    shown = console.type(command + "\r", fuel=CAT_STEP)
    while "xxxx" not in shown:
        shown += console.type("", fuel=CAT_STEP)
    shown += console.press_ctrl_c()
    assert shown.startswith(command + "\nxxxx")
    assert shown.endswith("x^C\n" + PROMPT)
    assert len(shown) < 1 << 20
    assert console.run("echo $?; cat notes") == "130\nno dot\n"
    assert not console.system.thread("shell").process.locks


def test_ctrl_c_ends_a_program_within_one_long_write(console: Console) -> None:
    command = "flood; echo never"
    shown = console.type(command + "\r", fuel=400_000)
    before = shown.count("\0")
    shown += console.press_ctrl_c()
    assert shown.endswith("\0^C\n" + PROMPT)
    assert 0 < before <= shown.count("\0") <= before + PAGE_SIZE
    assert console.run("echo $?; cat notes") == "130\nno dot\n"


def test_a_program_that_is_killed_within_one_long_write_ends_there(console: Console) -> None:
    shown = console.type("flood\r", fuel=400_000)
    before = shown.count("\0")
    flood = console.system.thread("flood").process
    assert flood is not None
    console.system.kernel.processes.kill(flood, 137, "killed")
    shown += console.type("")
    assert shown.endswith(PROMPT)
    assert 0 < before <= shown.count("\0") <= before + PAGE_SIZE
    assert console.run("echo $?; cat notes") == "137\nno dot\n"


def test_ctrl_c_ends_hexdump_between_two_lines(console: Console) -> None:
    shown = console.type("hexdump big; echo never\r", fuel=400_000)
    shown += console.press_ctrl_c()
    assert shown.endswith("^C\n" + PROMPT)
    assert console.run("echo $?; cat notes") == "130\nno dot\n"


@pytest.mark.parametrize("delay", [60_000, 75_000, 90_000])
def test_ctrl_c_ends_a_walk_and_gives_its_directories_back(console: Console, delay: int) -> None:
    shown = console.type("tree /; tree /; tree /; echo never\r", fuel=delay)
    shown += console.press_ctrl_c()
    assert shown.endswith("^C\n" + PROMPT)
    assert "never" not in shown.partition("\n")[2]
    assert console.run("echo $?; cat notes") == "130\nno dot\n"
    assert not console.system.thread("shell").process.locks


def test_ctrl_c_at_any_instruction_is_taken_once_and_leaves_a_shell_that_works(
    console: Console, some_of: Callable[[range, int], list[int]]
) -> None:
    for delay in some_of(range(500, 150_000, 1_511), 3):
        console.reset()
        console.type("ls docs; sink\r", fuel=delay)
        screen = console.press_ctrl_c()
        assert screen.count("^C\n" + PROMPT) == 1, (delay, screen)
        assert console.run("ls docs/*.bin; echo good") == "c.bin\ngood\n"


def test_ctrl_c_at_the_prompt_ends_orphans_that_read_the_console_the_youngest_first(console: Console) -> None:
    assert console.run("parent; parent") == ""
    orphans = [process for process in console.system.kernel.state.tasks.processes.values() if process.name == "sink"]
    assert len(orphans) == 2
    for alive in (1, 0):
        console.press_ctrl_c()
        assert [bool(process.threads) for process in orphans] == [bool(alive), False]
    assert [process.exit_code for process in orphans] == [130, 130]
    assert console.press_ctrl_c().endswith("^C\n" + PROMPT)
    assert console.run("echo good") == "good\n"


def test_ctrl_c_is_for_the_program_that_runs_before_it_is_for_an_orphan(console: Console) -> None:
    console.run("parent")
    console.type("spin\r", fuel=3_000_000)
    assert console.press_ctrl_c().endswith("^C\n" + PROMPT)
    names = [process.name for process in console.system.kernel.state.tasks.processes.values()]
    assert "sink" in names
    assert "spin" not in names


def test_a_guest_that_has_not_taken_a_break_is_sent_no_other(console: Console) -> None:
    serial = console.system.machine.serial
    assert serial.send_break()
    assert not serial.send_break()
    console.system.run(fuel=FUEL)
    assert serial.send_break()


def test_a_break_is_saved_with_the_machine(console: Console) -> None:
    console.system.machine.serial.send_break()
    kept = console.system.snapshot()
    console.system.run(fuel=FUEL)
    assert console.screen() == "^C\n" + PROMPT
    console.system.restore(kept)
    console.system.run(fuel=FUEL)
    assert console.screen() == "^C\n" + PROMPT
