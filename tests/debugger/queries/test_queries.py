"""Queries over a history.  The oracle is another machine that runs from power-on in one go and is listened to."""

import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import Endpoint, Message
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.ram import Ram
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.costs import operation_name
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from unicorn import UC_HOOK_MEM_WRITE

COMMANDS = "df; cat NOSUCH.TXT; ls -l; cat README.TXT"


def demo() -> System:
    options = SystemOptions(32 << 20, 8 << 20, commands=COMMANDS, fast_path=False)
    return System([open_image(Path(demo_image(cache_directory())))], options)


@pytest.fixture(scope="module")
def whole() -> Iterator[Prompt]:
    with demo() as system:
        bench = Workbench(system, History(system))
        bench.history.run()
        yield Prompt(bench, io.StringIO())
        bench.close()


@pytest.fixture
def prompt(whole: Prompt) -> Prompt:
    """The run at its end."""
    bench = whole.desk.bench
    bench.stops.clear()
    bench.history.go(bench.history.edge)
    return whole


def said(prompt: Prompt, line: str) -> list[str]:
    """Return the lines of an answer, which leaves the system where it stands."""
    assert isinstance(prompt.output, io.StringIO)
    prompt.output.seek(0)
    prompt.output.truncate()
    history = prompt.desk.bench.history
    here, registers = history.moment, history.machine.cpu.registers()
    prompt.line(line)
    if not line.startswith("goto"):
        assert (history.moment, history.machine.cpu.registers()) == (here, registers)
    return prompt.output.getvalue().splitlines()


def retired(lines: list[str]) -> list[int]:
    return [int(re.findall(r"^#\d+ *instruction ([\d,]+)", line)[0].replace(",", "")) for line in lines]


def block_of(system: System, name: str) -> int:
    return next(e.block for e in system.kernel.state.endpoints.by_number.values() if e.name == name)


@pytest.fixture(scope="module")
def requests_in_one_go() -> list[tuple[int, str, int, int]]:
    """When each slot was taken, for what, with which error, and for how many instructions."""
    found: list[list[object]] = []
    open_: dict[tuple[int, object], list[object]] = {}
    with demo() as system:
        machine = system.machine

        def listen(event: Event) -> None:
            key = machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT, event.fields["slot"]
            if event.kind == "ipc.take" or (event.kind == "ipc.fill" and key not in open_):
                open_[key] = [machine.clock.retired, "?", None, None]
                found.append(open_[key])
            row = open_[key]
            if event.kind == "ipc.fill":
                operation = event.fields["operation"]
                assert isinstance(operation, int)
                row[1] = operation_name(operation)
            elif event.kind in ("ipc.reload", "ipc.replied"):
                frame = system.kernel.state.endpoints.by_number[key[0]].frames[key[1]]  # type: ignore[index]
                row[2] = machine.ram.u32(frame + offset_of(Message, "error"))
            elif event.kind == "ipc.release":
                row[3] = machine.clock.retired - row[0]  # type: ignore[operator]
                del open_[key]

        machine.stream.subscribe(listen, ["ipc.take", "ipc.fill", "ipc.reload", "ipc.replied", "ipc.release"])
        system.run()
    return [tuple(row) for row in found]  # type: ignore[misc]


def test_listed_requests_are_those_of_a_run_in_one_go(
    prompt: Prompt, requests_in_one_go: list[tuple[int, str, int, int]]
) -> None:
    lines = said(prompt, "list requests")
    assert len(lines) > 10
    assert retired(lines) == [begin for begin, *_ in requests_in_one_go]
    for line, (_, operation, error, duration) in zip(lines, requests_in_one_go, strict=True):
        assert f": {operation} to slot" in line
        assert (", OK, " in line) is (error == 0)
        assert line.endswith(f", {duration:,} instructions")


def test_a_condition_chooses_requests_by_operation_and_error(
    prompt: Prompt, requests_in_one_go: list[tuple[int, str, int, int]]
) -> None:
    failed = [begin for begin, operation, error, _ in requests_in_one_go if operation == "OPEN" and error]
    lines = said(prompt, "list requests where op == OPEN and error != 0")
    assert retired(lines) == failed != []
    assert all("NOT_FOUND" in line for line in lines)
    assert retired(said(prompt, "requests where op == open and error == not_found")) == failed
    longest = [begin for begin, *_, duration in requests_in_one_go if duration > 500]
    assert retired(said(prompt, "requests where duration > 500")) == longest
    begin, end = longest[0] - 1, longest[0] + 1
    assert retired(said(prompt, f"list requests between {begin} and {end}")) == longest[:1]


def test_a_number_of_an_answer_is_gone_to(prompt: Prompt) -> None:
    lines = said(prompt, "requests where op == FREE_SPACE and endpoint == d0p1")
    said(prompt, "goto #1")
    assert prompt.desk.bench.machine.clock.retired == retired(lines)[0]
    assert said(prompt, "print retired") == [f"{retired(lines)[0]:#x} = {retired(lines)[0]}"]
    assert retired(said(prompt, "list requests between #1 and end"))[0] == retired(lines)[0]


def test_writes_that_are_listed_are_those_that_a_hook_of_the_engine_sees(prompt: Prompt) -> None:
    block = block_of(prompt.desk.bench.system, "d0p1")
    place = block + offset_of(Endpoint, "tail")
    expected: list[tuple[int, int]] = []
    with demo() as system:
        machine = system.machine

        def written(_uc: object, _kind: int, _address: int, _size: int, value: int, _data: object) -> None:
            expected.append((int(machine.state.count) - 1, value))

        machine.state.watched += 1
        machine.uc.hook_add(UC_HOOK_MEM_WRITE, written, begin=place, end=place + 3)
        system.run()
    lines = said(prompt, "who writes endpoint[1].tail")
    by_cpu = [line for line in lines if "by policy" not in line]
    assert len(expected) > 4
    assert retired(by_cpu) == [at for at, _ in expected]
    became = [int(re.findall(r"becomes (0x[0-9a-f]+)", line)[0], 16) for line in by_cpu]
    assert became == [value for _, value in expected]


def test_a_write_that_is_listed_is_the_next_instruction_where_goto_leads(prompt: Prompt) -> None:
    lines = said(prompt, "who writes endpoint[1].tail")
    bench = prompt.desk.bench
    for number in (2, len(lines)):
        said(prompt, f"goto #{number}")
        before = said(prompt, "print endpoint[1].tail")
        assert f"by {bench.code.name(bench.machine.cpu.eip)}" in lines[number - 1]
        said(prompt, "goto #" + str(number))
        bench.step()
        assert said(prompt, "print endpoint[1].tail") != before


def test_reads_by_policy_are_listed_with_their_host_call_and_are_those_of_a_run_in_one_go(prompt: Prompt) -> None:
    """The oracle is another machine whose `Ram` tells who calls it."""
    endpoint = prompt.desk.bench.system.kernel.state.endpoints.by_number[1]
    place = endpoint.frames[0] + offset_of(Message, "ecx")
    expected: set[int] = set()
    with demo() as system, pytest.MonkeyPatch.context() as patch:
        plain = Ram.view

        def view(ram: Ram, physical: int, length: int, account: Account | None = None) -> memoryview:
            writes = sys._getframe(1).f_code.co_name.startswith(("write", "put_"))
            if physical < place + 4 and place < physical + length and ram.guarded and not writes:
                expected.add(system.machine.clock.retired)
            return plain(ram, physical, length, account)

        patch.setattr(Ram, "view", view)
        system.run()
    lines = said(prompt, f"who reads [{KERNEL_BASE + place:#x}]")
    by_policy = [line for line in lines if "in the host call" in line]
    assert set(retired(by_policy)) == expected
    assert len(expected) > 2
    assert any(
        line.endswith("by policy, which takes a view to read or write, in the host call convert") for line in lines
    )
    assert any(line.endswith(", thread 12 'shell', ring 0") for line in lines)


@pytest.mark.parametrize("register", ["eax", "esp"])
def test_writes_of_a_register_that_are_listed_are_all_the_instructions_that_change_it(
    prompt: Prompt, register: str
) -> None:
    """The oracle steps through the same stretch, instruction by instruction."""
    bench = prompt.desk.bench
    begin, end = 14_900, 15_180  # a request, from the client through the server and back
    lines = said(prompt, f"who writes {register} between {begin} and {end}")
    listed = {
        number: int(match[1], 16)
        for number, line in zip(retired(lines), lines, strict=True)
        if (match := re.search(r" becomes (0x[0-9a-f]{8}), by", line))
    }
    changed = {}
    bench.history.go(bench.history.moment_at(begin))
    while bench.machine.clock.retired < end:
        at, before = bench.machine.clock.retired, getattr(bench.machine.cpu, register)
        bench.history.run(fuel=1)
        if getattr(bench.machine.cpu, register) != before:
            changed[at] = getattr(bench.machine.cpu, register)
    assert listed == changed != {}


def test_reads_of_a_register_are_those_of_instructions_that_name_it_or_imply_it(prompt: Prompt) -> None:
    lines = said(prompt, "who reads ecx between 13620 and 13900")
    named = [line for line in lines if re.search(r"\b(ecx|cx|cl|ch)\b", line.partition(", by ")[2])]
    implied = [line for line in lines if re.search(r"  (pushal|rep \w+|loop\w*|jecxz)", line)]
    assert len(lines) == len({*named, *implied})
    assert named
    assert said(prompt, "goto #1")[1].endswith(re.findall(r">  (.*), thread", lines[0])[0])


@pytest.mark.parametrize(("state", "kind"), [("taken", "ipc.take"), ("free", "ipc.release"), ("served", "ipc.map")])
def test_when_a_slot_was_in_a_state_agrees_with_the_events_of_a_run_in_one_go(
    prompt: Prompt, state: str, kind: str
) -> None:
    expected: list[int] = []
    with demo() as system:
        machine = system.machine

        def listen(event: Event) -> None:
            endpoint = system.kernel.state.endpoints.by_number[machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT]
            if endpoint.name == "d0p1" and event.fields["slot"] == 0:
                expected.append(machine.clock.retired)

        machine.stream.subscribe(listen, [kind])
        system.run()
    lines = said(prompt, f"when was slot 0 of d0p1 {state}")
    found = retired([line for line in lines if "by policy" not in line])
    assert len(found) == len(expected) > 3
    # The event is some instructions after the one that changes the state, or just after it; never another one's.
    assert all(-40 <= event - at <= 40 for at, event in zip(found, expected, strict=True))


def test_a_slot_whose_request_is_posted_was_taken_until_then_and_not_free(prompt: Prompt) -> None:
    lines = said(prompt, "when was slot 0 of d0p1 posted")
    assert {re.findall(r": (\w+) becomes posted, ", line)[0] for line in lines} == {"taken"}


def test_when_a_field_became_a_value_is_the_moment_at_which_it_has_it(prompt: Prompt) -> None:
    lines = said(prompt, "when endpoint[1].tail >= 3")
    assert len(lines) == 1
    said(prompt, "goto #1")
    assert said(prompt, "print endpoint[1].tail") == ["0x3 = 3"]
    bench = prompt.desk.bench
    assert bench.back_step()
    assert said(prompt, "print endpoint[1].tail") == ["0x2 = 2"]


def test_a_query_tells_how_far_it_is_and_ctrl_c_keeps_what_it_has_found(prompt: Prompt) -> None:
    shares: list[float] = []
    machine = prompt.desk.bench.machine
    kept, prompt.desk.progress = prompt.desk.progress, shares.append
    whole = said(prompt, "list requests")
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    sixth = retired(whole)[5]

    def interrupt() -> None:
        if machine.clock.retired > sixth:
            signal.raise_signal(signal.SIGINT)

    with machine.probing("take_slot", interrupt):
        lines = said(prompt, "list requests")
    prompt.desk.progress = kept
    assert lines[-1].startswith("interrupted: looked through up to instruction")
    assert retired(lines[:-1]) == retired(whole)[: len(lines) - 1]
    assert 6 <= len(lines) - 1 < len(whole)
    assert said(prompt, "list requests") == whole


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_gone_at_the_end_and_nothing_of_it_is_piped(prompt: Prompt) -> None:
    piped = "\n".join(said(prompt, "list requests"))
    shown = Prompt(prompt.desk.bench, Terminal())
    shown.line("list requests")
    assert isinstance(shown.output, Terminal)
    progress, erased, answer = shown.output.getvalue().rpartition("\r\x1b[K")
    assert erased
    assert re.fullmatch(r"(\r\x1b\[K *\d+% of the history)+", progress)
    assert answer.rstrip() == piped
    assert "\x1b" not in piped


def test_stops_are_neither_hit_nor_lost_by_a_query(prompt: Prompt) -> None:
    said(prompt, "break take_slot")
    said(prompt, "break ipc.take")
    said(prompt, "watch endpoint[1].tail")
    before = said(prompt, "info break")
    assert said(prompt, "list requests")
    assert said(prompt, "info break") == before
    assert prompt.desk.bench.back() is not None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("who", "who reads PLACE, or who writes PLACE"),
        ("who writes [0x90000000]", "no memory is mapped there"),
        ("who writes endpoint[1].tial", "no field 'tial'; there is tail"),
        ("who writes endpoint[1].tail between 5 and 3", "from instruction 5 to instruction 3 is no stretch"),
        ("who writes endpoint[1].tail between 5 and 99999999", "is no stretch of the history"),
        ("who writes endpoint[1].tail between x and end", "'x' is no moment: a number of instructions"),
        ("when", "when FIELD == VALUE"),
        ("when slot 5 tkaen", "no state 'tkaen' of a slot; there is taken"),
        ("when slot 50 taken", "'50' is not a slot: give a number from 0 to 31"),
        ("when slot 5 of d9p9 taken", "no endpoint 'd9p9'"),
        ("when endpoint[1].state == 3", "has 32 bytes"),
        ("when eax", "when FIELD == VALUE"),
        ("when eax == 5", r"eax is a register; \[eax\] is the memory at the address in it"),
        ("who writes cr3", r"cr3 is a register; \[cr3\] is the memory at the address in it"),
        ("watch eax", r"eax is a register; \[eax\] is the memory at the address in it"),
        ("who reads eax length 8", r"eax is a register; \[eax\] is memory"),
        ("list requests op == 3", "list requests where CONDITION"),
        ("list requests where erorr != 0", "no field 'erorr' of a request; there is error"),
        ("list requests where", "list requests where CONDITION"),
        ("goto #99999", "no moment #99999"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_so(prompt: Prompt, line: str, reason: str) -> None:
    here = prompt.desk.bench.history.moment
    with pytest.raises(CommandError, match=reason):
        prompt.line(line)
    assert prompt.desk.bench.history.moment == here


def test_numbers_of_moments_that_are_no_longer_are_forgotten(boot_demo: Callable[[str], System]) -> None:
    system = boot_demo("df")
    prompt = Prompt(Workbench(system, History(system)), io.StringIO())
    prompt.desk.bench.history.run()
    lines = said(prompt, "list requests")
    prompt.line("goto #3")
    prompt.line("set eax = 5")
    prompt.line("goto #3")
    with pytest.raises(CommandError, match=f"no moment #{len(lines)}; there are #1 to #3"):
        prompt.line(f"goto #{len(lines)}")
