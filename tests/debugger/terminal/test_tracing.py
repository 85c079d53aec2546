"""The way of a request, the last events, and AHCI's queue: data for the lines and for the screen."""

import io
import re
from collections.abc import Callable, Iterator

import pytest
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.system import System
from callgate.tools.debugger.commands import showing, tracing, views
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.commands.tracing import requests
from callgate.tools.debugger.history import History, timeline
from callgate.tools.debugger.history.timeline import ROAD
from callgate.tools.debugger.screen import picture
from callgate.tools.debugger.workbench import looks
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench

COMMANDS = "df; cat README.TXT"


@pytest.fixture
def bench(boot_demo: Callable[[str], System]) -> Iterator[Workbench]:
    """The demo, before its first instruction."""
    system = boot_demo(COMMANDS)
    bench = Workbench(system, History(system))
    yield bench
    bench.close()


def said(bench: Workbench, *lines: str) -> str:
    """Return what the last of these commands says."""
    output = io.StringIO()
    prompt = Prompt(bench, output)
    for line in lines:
        output.seek(0)
        output.truncate()
        prompt.line(line)
    return output.getvalue()


@pytest.mark.thorough(only=True)
def test_the_time_line_has_each_event_once_however_one_goes_to_and_fro(
    bench: Workbench, boot_demo: Callable[[str], System]
) -> None:
    told: list[Event] = []
    other = boot_demo(COMMANDS)
    other.trace(told.append)
    other.run()
    said(bench, "until ipc.reply", "reverse-stepi 3", "goto 2000", "step phase", "back request", "goto end")
    said(bench, "continue", "back phase 40", "goto 9000")
    entries = bench.timeline.entries
    kinds = {entry.event.kind for entry in entries}
    assert [entry.event for entry in entries] == [event for event in told if event.kind in kinds]
    assert sum(entry.retired <= 9000 for entry in entries) == bench.timeline.present


def test_the_way_of_each_request_goes_along_the_road(bench: Workbench) -> None:
    said(bench, "continue")
    entries = bench.timeline.entries
    ends = [count for count, entry in enumerate(entries, 1) if entry.event.kind == "ipc.release"]
    assert len(ends) >= 10
    plain = 0
    for count in ends:
        way = bench.timeline.way(count)
        assert way is not None
        names = [entry.name for entry in way.passed]
        assert names[0] in ("take", "fill")
        assert names[-1] == "release"
        assert len({entry.slot for entry in way.passed}) == 1
        assert way.operation
        if "replied" not in names and "release" in names:
            on_road = [name for name in ROAD if name in names]
            assert [name for name in names if name in ROAD] == on_road
            plain += names == on_road
    assert plain > 5


def test_the_present_phase_stands_in_brackets_and_what_is_to_come_after_it(bench: Workbench) -> None:
    text = said(bench, "tbreak ipc.load if op == FREE_SPACE and thread == 10", "continue", "way")
    assert text.startswith("FREE_SPACE of d0p1, slot 0, client 12 'shell', server 10 'hosted:d0p1'\n")
    assert "take > fill > post > fetch > map > [load] > call > save" in text
    assert "[map] > load" in said(bench, "back phase", "way")
    assert "[reply] > unmap > convert" in said(bench, "step phase 4", "way")
    with pytest.raises(CommandError, match="no request has been begun"):
        said(bench, "goto 0", "way")


def test_events_are_those_before_here(bench: Workbench) -> None:
    assert said(bench, "events") == "no event has come up to here\n"
    lines = said(bench, "until ipc.reply", "back phase 2", "events 3").splitlines()
    assert [line.split()[1] for line in lines] == ["ipc.map", "ipc.load", "ipc.call"]
    assert lines[-1].split()[0].replace(",", "") == str(bench.machine.clock.retired)


def test_what_is_cut_off_says_so_and_how_to_go_on(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    said(bench, "until ipc.reply")
    lines = said(bench, "disassemble take_slot 999999999").splitlines()
    *_, last, cut = lines
    assert len(lines) == 1001
    address = last.split()[0]
    assert cut.startswith(f"1,000 instructions are shown at once; go on with: disassemble {address} ")
    assert said(bench, cut.partition("with: ")[2]).splitlines()[0] == last
    *_, last, cut = said(bench, "disassemble 0x400fe0 200").splitlines()
    assert cut == f"after {last.split()[0]} no instruction can be read"
    assert len(said(bench, "disassemble take_slot 20").splitlines()) == 20

    monkeypatch.setattr(requests, "MOST", 4)
    first, *rest = said(bench, "events 9").splitlines()
    assert len(rest) == 4
    assert first.startswith("4 events are shown at once; those before them: goto ")
    place = first.partition("goto ")[2].partition(",")[0]
    assert len(said(bench, "events 4").splitlines()) == 4
    assert int(place) < int(rest[0].split()[0].replace(",", ""))

    monkeypatch.setattr(views, "MOST_FRAMES", len(said(bench, "bt").splitlines()))
    assert said(bench, "bt").splitlines()[-1].endswith("frames are looked for; there may be more")
    monkeypatch.setattr(showing, "MOST_LINKS", 2)
    said(bench, "until ipc.reload if thread == 12", "finish")
    *links, cut = said(bench, "why -c ecx").splitlines()
    onward = re.fullmatch(r"2 links are shown at once; go on with: goto (\d+), why -c (.*)", cut)
    assert onward
    assert said(bench, f"goto {onward[1]}", f"why {onward[2]}").startswith(f"#1 {onward[2]} = ")
    assert len(links) > 2


def test_events_that_are_no_longer_kept_are_said_so(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST", 40)
    monkeypatch.setattr(timeline, "DROPPED", 10)
    first, *rest = said(bench, "continue", "events 99").splitlines()
    assert first.startswith(f"events before instruction {bench.timeline.begin:,} are not kept")
    assert 30 <= len(rest) <= 40
    assert int(rest[0].split()[0].replace(",", "")) == bench.timeline.begin
    assert picture.times(bench).dropped


def test_the_queue_of_a_port_shows_the_command_that_it_works_on(bench: Workbench) -> None:
    text = said(bench, "break disk.command", "continue", "disk")
    assert "port 0, 126,976 sectors" in text
    assert "slot 0" in text
    while "READ" not in text:
        text = said(bench, "continue", "disk")
    assert "sector " in text
    assert "Q" in text.splitlines()[1] or "I" in text.splitlines()[1]


def test_instructions_before_the_present_one_begin_where_the_assembler_put_them(bench: Workbench) -> None:
    said(bench, "until take_slot", "stepi 6")
    rows = [row for row in looks.code_around(bench, 60) if row.address is not None]
    known = {line.address for line in bench.code.image(0xC0101000, bench.debuggee.threads.processes()[0]).lines}  # type: ignore[union-attr]
    before = [row.address for row in rows if row.address is not None and row.address < bench.machine.cpu.eip]
    assert len(before) >= 6
    assert set(before) <= known
    assert sum(row.current for row in rows) == 1


def test_a_line_of_an_event_names_the_place_to_go_to(bench: Workbench) -> None:
    said(bench, "until ipc.fill")
    entry = bench.timeline.entries[-1]
    said(bench, "stepi 20", f"goto {tracing.line(entry).split()[0]}")
    assert bench.machine.clock.retired == entry.retired
