"""The debugger's screen: keys and mouse move through the run, commands are those of the lines, nothing harms it."""

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History, HistoryInterrupted
from callgate.tools.debugger.screen.panes import simple
from callgate.tools.debugger.screen.panes.output import OutputPane
from callgate.tools.debugger.screen.panes.rows import clean
from callgate.tools.debugger.screen.worker import Worker
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_screen import FREE_SPACE, PATIENCE, Driven, drive
from textual.events import Key
from textual.widgets import Input

Boot = Callable[[str], System]


def test_keys_go_forward_and_the_same_keys_with_shift_come_back(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        assert any(" =>  24 " in row for row in driven.rows()), "the next instruction is not in sight at the beginning"
        await driven.enter(FREE_SPACE)
        await driven.press("c")
        for key in "ixpr":
            if key == "r":
                await driven.press(key)  # the way back ends where a request begins
            before = driven.retired, driven.shown("code"), driven.app.picture and driven.app.picture.values
            await driven.press(key)
            assert driven.retired > before[0]
            await driven.press(key.upper())
            assert (driven.retired, driven.shown("code"), driven.app.picture and driven.app.picture.values) == before

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_what_has_changed_is_marked_after_a_step(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        assert "*" not in driven.shown("registers")
        await driven.press("i")
        assert "esi 00008000*" in driven.shown("registers")
        await driven.press("d")
        assert "esi 00008000*" in driven.shown("registers"), "it has not moved"

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_the_time_line_goes_to_each_event_by_keys_and_mouse(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.enter(FREE_SPACE)
        await driven.press("c")
        end, registers = driven.retired, driven.shown("registers")
        entries = driven.app.bench.timeline.entries
        places = sorted({entry.retired for entry in entries})
        for place in reversed(places[-6:-1]):
            await driven.press("comma")
            assert driven.retired == place
        assert driven.app.picture is not None
        assert driven.app.picture.past
        assert driven.app.picture.way is not None
        assert "[" in driven.shown("ipc").splitlines()[1]
        await driven.pilot.click("#times", offset=(0, 0))
        await driven.settle()
        assert driven.retired == 0
        await driven.pilot.click("#times", offset=(79, 0))
        await driven.settle()
        assert driven.retired == end
        await driven.pilot.click("#times", offset=(18, 1))
        await driven.settle()
        assert driven.retired in places[-4:-1]
        await driven.press("escape", "full_stop", "full_stop", "full_stop")
        assert (driven.retired, driven.shown("registers")[:20]) == (end, registers[:20])

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_a_click_in_the_margin_sets_a_breakpoint_and_another_one_removes_it(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.enter("until ipc_request")
        row = next(index for index, text in enumerate(driven.rows()[1:10]) if "=>" in text) + 1
        await driven.pilot.click("#code", offset=(0, row))
        await driven.settle()
        assert driven.rows()[row + 1].startswith("●")
        assert driven.app.picture is not None
        assert len(driven.app.picture.stops) == 1
        before = driven.retired
        await driven.press("c")
        assert driven.retired == before + 1
        await driven.press("b")
        assert driven.app.picture.stops == ()

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_a_query_says_how_much_it_has_looked_through_and_a_second_colon_is_left_out(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        worker, session, shown = driven.app.worker, driven.app.session, []
        told = session.prompt.desk.progress

        def progress(share: float) -> None:
            told(share)
            driven.app.call_from_thread(driven.app._beat)
            shown.append(driven.rows()[0])

        session.prompt.desk.progress = progress
        await driven.enter("until ipc.take")
        await driven.enter("::list requests")
        assert driven.rows()[21].startswith("error: no command ':list'")
        await driven.enter(":list requests")
        assert not driven.rows()[21].startswith("error: ")
        assert shown[-1].endswith("at work, 100% looked through; Ctrl-C ends it")
        assert not worker.busy
        assert session.share is None

    drive(boot_demo("df"), scenario)


def test_the_command_line_says_what_the_lines_say(boot_demo: Boot) -> None:
    lines = ["help", "tbreak ipc.reply", "continue", "message", "way", "events 5", "nonsense"]
    system = boot_demo("df")
    bench = Workbench(system, History(system, 64 << 20))
    output = io.StringIO()
    prompt = Prompt(bench, output)
    for line in lines[:-1]:
        prompt.line(line)
    bench.close()

    async def scenario(driven: Driven) -> None:
        for line in lines:
            await driven.enter(line)
        said = [clean(line) for line, _ in driven.app.query_one("#output", OutputPane).said]
        assert "error: no command 'nonsense'; try: help" in said
        told = [line for line in said if not line.startswith(("(callgate)", "error:"))]
        assert told == [clean(line) for line in output.getvalue().splitlines()]

    drive(boot_demo("df"), scenario)


def test_what_is_typed_quickly_after_the_colon_is_a_command_and_a_colon_in_it_is_kept(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        for key in (":", *"s:5"):
            driven.app.post_message(Key({":": "colon", "5": "5"}.get(key, key), key))
        await driven.settle()
        assert driven.app.query_one("#command", Input).value == "s:5"
        assert driven.retired == 0

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_tab_completes_a_command_and_up_recalls_one(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("colon", *"disass", "tab")
        line = driven.app.query_one("#command")
        assert line.value == "disassemble "  # type: ignore[attr-defined]
        await driven.press("enter", "colon", "up")
        assert line.value == "disassemble "  # type: ignore[attr-defined]
        await driven.press("down", *"back ", "tab")
        assert "continue next nexti out phase" in driven.rows()[21]

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_a_line_to_the_guest_that_waits_for_it_lets_it_run_on(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("c", "7")
        assert "waits for what does not come" in driven.rows()[21]
        await driven.fill("typing", "echo seen")
        assert "seen" in driven.shown("printed").splitlines()
        await driven.press("escape", "7", "up")
        assert driven.app.query_one("#typing").value == "echo seen"  # type: ignore[attr-defined]

    drive(boot_demo(None), scenario)  # type: ignore[arg-type]  # interactive


def test_what_a_guest_prints_without_an_end_is_broken_into_lines_and_only_so_much_of_it_is_kept(
    boot_demo: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(driven: Driven) -> None:
        for _ in range(40):
            driven.app.print_from_guest(b"x" * 700)
        driven.app.print_from_guest(b"\x07y\tz\nwrong\rright\n")
        await driven.settle()
        first, *rest, last = driven.shown("printed").splitlines()
        assert first == "earlier lines are not kept: the last 20 are"
        assert (len(rest), {*rest[:-1]}, last) == (19, {"x" * 1000}, "right")
        assert rest[-1] == "y       z"

    monkeypatch.setattr(simple, "KEPT", 20)
    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_a_line_that_is_typed_while_the_guest_computes_reaches_it_before_it_stops(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        app, history = driven.app, driven.app.bench.history
        line = app.query_one("#typing", Input)

        async def typed(text: str) -> None:
            line.focus()
            line.value = text
            await app._press_keys(["enter"])

        async def comes(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await asyncio.sleep(0.002)

        await driven.press("c", "7")
        await typed("; ".join(["crc32 PATTERN.BIN"] * 8))  # some 25 million instructions each
        await comes(lambda: int(history.machine.state.count) > 1_000_000)
        await typed("echo and this")
        await comes(lambda: len(history.occurred) == 2)
        assert app.worker.busy
        await app._press_keys(["ctrl+c"])
        await driven.settle()
        given = history.occurred[1].position
        assert given < history.machine.position
        assert "(callgate) type echo and this" in driven.shown("output")
        await driven.enter(f"goto {given.retired}")
        cpu, count = history.machine.cpu, int(history.machine.state.count)
        assert cpu.halted != (count, cpu.eip)  # where a guest waits for input it has halted

    drive(boot_demo(None), scenario)  # type: ignore[arg-type]  # interactive


def test_ctrl_c_ends_a_long_command_at_an_instruction_and_the_screen_answers_meanwhile(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        async def sees(text: str, *, row: int) -> None:
            async with asyncio.timeout(PATIENCE):
                while text not in driven.rows()[row]:
                    await asyncio.sleep(0.01)

        driven.app.action_command("stepi 100000000")
        await sees("Ctrl-C ends it", row=0)
        for number, name in ((2, "Threads"), (6, "Disk"), (1, "IPC")):
            driven.app.post_message(Key(str(number), str(number)))
            await sees(f"[{number} {name}]", row=10)
        assert driven.app.worker.busy
        await driven.press("ctrl+c")
        assert driven.rows()[21] == "interrupted"
        here = driven.retired
        await driven.press("i")
        assert driven.retired == here + 1, "the next command is not interrupted"

    drive(boot_demo("crc32 README.TXT; " * 200), scenario)


def test_ctrl_c_while_a_checkpoint_is_restored_ends_the_way_back_and_not_the_next_command(boot_demo: Boot) -> None:
    system = boot_demo("df")
    history = History(system, 64 << 20)
    history.run(until="ipc.take")
    origin, restore, ended = history.moment, history._restore, []
    worker = Worker(history.interrupts, lambda: None, ended.append)

    def interrupted(*arguments: Any) -> None:
        history._restore = restore  # type: ignore[method-assign]
        worker.interrupt()
        restore(*arguments)

    def back() -> None:
        history._restore = interrupted  # type: ignore[method-assign]
        with pytest.raises(HistoryInterrupted):
            history.back_to(lambda _stop: False)
        assert history.moment == origin

    worker.start()
    worker.give(back)
    worker.give(lambda: ended.append(history.run(fuel=1).reason))
    while worker.busy and worker.thread.is_alive():
        time.sleep(0.002)
    worker.stop()
    assert ended == ["fuel"]


@pytest.mark.thorough(only=True)
def test_a_key_that_repeats_does_not_pile_up_steps(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        driven.app.action_command("stepi 2000")
        driven.app.action_command("stepi 100000000")
        await driven.settle()
        assert 1900 < driven.retired <= 2000  # the delivery of an interrupt is a step, too

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("size", [(20, 5), (79, 24), (80, 19), (1, 1)])
def test_a_small_terminal_says_what_is_needed_and_a_larger_one_shows_it_all(
    boot_demo: Boot, size: tuple[int, int]
) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("i")
        if size > (10, 4):
            assert "needs 80 x 20" in " ".join(driven.rows())
        for larger in ((80, 20), (200, 60), (80, 24)):
            await driven.resize(*larger)
            assert driven.rows()[0].startswith(" instruction 1 ")
            assert len(driven.rows()) == larger[1]

    drive(boot_demo("df"), scenario, size=size)


@pytest.mark.thorough(only=True)
def test_a_pane_in_focus_can_have_all_of_the_screen(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("z")
        assert "[1 IPC]" not in "\n".join(driven.rows())
        await driven.press("z", "5", "z")
        assert "=>" not in "\n".join(driven.rows())
        await driven.press("z")
        assert "=>" in "\n".join(driven.rows())

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_expressions_of_the_panes_that_mean_nothing_are_said_in_the_pane(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("3", "a", *"+", "enter")
        assert "is no expression" in "\n".join(driven.rows()[10:20])
        await driven.press("escape", "4", "a", *"+1", "enter")
        assert "paging is off" in "\n".join(driven.rows()[10:20])
        await driven.press("escape", "5", "t", "t")
        assert "IDT" in driven.rows()[11]

    drive(boot_demo("df"), scenario)


@pytest.mark.thorough(only=True)
def test_another_way_of_the_run_forgets_the_events_after_it(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.enter("until ipc.reply")
        total = len(driven.app.bench.timeline.entries)
        await driven.press("comma", "comma", "comma")
        await driven.enter("set eax = 5")
        assert len(driven.app.bench.timeline.entries) < total
        assert "goes another way" in driven.shown("output")

    drive(boot_demo("df"), scenario)


def test_a_line_that_a_command_says_goes_on_in_the_next_row_where_the_pane_ends(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.enter(FREE_SPACE)
        await driven.press("c")
        await driven.enter("why esi")
        said = driven.app.query_one("#output", OutputPane)
        line = next(text for text, _ in said.said if "of process" in text)
        assert len(line) > 80
        rows = [text for text, _ in said.printed]
        assert max(map(len, rows)) <= 80
        place = rows.index(next(row for row in rows if row and line.startswith(row)))
        assert rows[place] + " " + rows[place + 1].strip() == line
        assert rows[place + 1].startswith(6 * " "), "two of its own, and four"
        await driven.resize(140, 40)
        assert line in [text for text, _ in said.printed]

    drive(boot_demo("df"), scenario)


def test_a_terminal_that_becomes_too_small_while_help_is_open_says_so(boot_demo: Boot) -> None:
    async def scenario(driven: Driven) -> None:
        await driven.press("question_mark")
        assert len(driven.app.screen_stack) == 2
        await driven.resize(20, 5)
        assert len(driven.app.screen_stack) == 1
        small = driven.app.query_one("#small")
        assert small.display
        assert "20 x 5" in str(small.render())
        await driven.resize(80, 24)
        assert not small.display
        await driven.press("question_mark")
        await driven.resize(200, 60)
        assert len(driven.app.screen_stack) == 2, "help stays where there is room"
        await driven.press("escape")
        assert driven.app.screen.has_class("-wide")

    drive(boot_demo("df"), scenario)
