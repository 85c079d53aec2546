"""Moving through a run: over, out, by phase and request, and the same ways back."""

import io

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.commands.language import COMMANDS, by_name
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.terminal.conversation import talk
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

BOOTED = (
    12_600  # instructions; no checkpoint can be kept while volumes are mounted, and each way back would begin before
)


def at(bench: Workbench) -> tuple[str, int]:
    return bench.code.name(bench.machine.cpu.eip)[11:], bench.machine.clock.retired


@pytest.mark.parametrize("place", ["take_slot", "ipc_gate", "server_gate", "system_gate"])
def test_steps_over_calls_are_undone_by_steps_back_over_them(bench: Workbench, place: str) -> None:
    bench.history.run(fuel=BOOTED)
    bench.stops.add(place, once=True)
    bench.stops.found(bench.run())
    passed = [bench.history.moment]
    for _ in range(8):
        bench.over()
        passed.append(bench.history.moment)
    assert passed == sorted(set(passed))
    back = [bench.history.moment]
    while bench.history.moment > passed[0] and bench.back_over():
        back.append(bench.history.moment)
    assert back == passed[::-1]


def test_over_passes_a_whole_call_and_step_enters_it(bench: Workbench) -> None:
    bench.stops.add("ipc_request", once=True)
    bench.run()
    bench.stops.clear()
    while (instruction := bench.code.current()) is not None and instruction.mnemonic != "call":
        bench.step()
    assert instruction is not None
    begin = bench.history.moment
    bench.over()
    after = bench.history.moment
    assert bench.machine.cpu.eip == instruction.address + instruction.size
    assert after.position.retired > begin.position.retired + 2
    bench.history.go(begin)
    bench.step()
    entered = bench.machine.cpu.eip
    assert entered != instruction.address + instruction.size
    bench.out()
    assert bench.history.moment == after
    assert bench.back_over()
    assert bench.history.moment == begin
    bench.step()
    assert bench.machine.cpu.eip == entered
    for _ in range(3):
        bench.over()
    assert bench.back_out()
    assert bench.history.moment == begin


def test_phases_pass_in_the_same_order_forward_and_backward(prompt: Prompt) -> None:
    prompt.desk.bench.history.run(fuel=BOOTED)
    said(prompt, "until ipc.take")
    forward = [said(prompt, "step phase").splitlines()[0] for _ in range(20)]
    assert {"event ipc.fill", "event ipc.map", "event ipc.wake"} <= {" ".join(line.split()[:2]) for line in forward}
    backward = [said(prompt, "back phase").splitlines()[0] for _ in range(19)]
    assert backward == forward[-2::-1]


def test_requests_are_counted_both_ways(prompt: Prompt) -> None:
    first = said(prompt, "step request")
    said(prompt, "step request 5")
    assert said(prompt, "back request 5").splitlines()[1].replace(", in the past", "") == first.splitlines()[1]


@pytest.mark.parametrize("name", ["ipc.take", "disk"])
def test_an_event_before_is_found_in_the_same_place_whether_the_time_line_knows_it_or_not(
    bench: Workbench, name: str
) -> None:
    def ways() -> list[Moment]:
        bench.history.go(end)
        found = [bench.history.moment for _ in range(2) if bench.back_to_event(name) is not None]
        assert bench.back_to_event("shell.line") is None  # it is no event of this run
        return [*found, bench.history.moment]

    bench.history.run(fuel=BOOTED)
    bench.stops.add("ipc.release", once=True)
    bench.run()
    bench.stops.clear()
    bench.history.run(fuel=4000)
    end = bench.history.moment
    known = ways()
    assert len(known) > 1
    bench.timeline.kinds = frozenset()
    assert ways() == known


def test_a_condition_that_names_a_number_of_the_protocol_chooses_the_request(prompt: Prompt) -> None:
    said(prompt, "break ipc.reply if op == free_space and thread != 3")
    said(prompt, "continue")
    assert said(prompt, "print op") == f"FREE_SPACE = {Operation.FREE_SPACE:#x} = {Operation.FREE_SPACE:d}\n"
    assert "FREE_SPACE" in said(prompt, "message")


def test_a_watchpoint_finds_the_write_of_a_slots_client_backward(prompt: Prompt) -> None:
    said(prompt, "until ipc.load")
    client = said(prompt, "print slot[0].client")
    said(prompt, "watch slot[0].client")
    text = said(prompt, "back continue")
    assert text.startswith("stop 2: write of 2 bytes at 0x")
    assert "in the past" in text
    said(prompt, "goto end")
    assert said(prompt, "print slot[0].client") == client


def test_an_empty_line_repeats_a_step_and_nothing_else(prompt: Prompt) -> None:
    said(prompt, "stepi 3")
    assert said(prompt, "").startswith("instruction 6:")
    said(prompt, "registers")
    assert said(prompt, "") == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("stpe", "no command 'stpe'; did you mean step?"),
        ("step no", "'no' is not a count"),
        ("step 0", "'0' is not a count"),
        ("continue 5", "this command takes no argument"),
        ("break", "break where?"),
        ("break take_slto", "no symbol 'take_slto'; there is take_slot"),
        ("break shell:main", "no process 'shell'"),
        ("break slots.asm:9999", "slots.asm:9999: no instruction comes from this line or a later one"),
        ("break take_slot if )", r"'\)' is no expression"),
        ("break ipc.reply if opp == 3", "no register, field or number 'opp'; there is op"),
        ("break 0x100 if eax", "stop 1|0x100 is an address of ring 3|set"),
        ("break slot 5 of nothing", "no endpoint 'nothing' can come: they are named rom, d0p1, "),
        ("slots d0p1", "no server takes requests yet"),
        ("break slot 32", "'32' is not a slot"),
        ("break state serverd", "no state 'serverd'; there is served"),
        ("watch endpoint[1]", "no endpoint|1"),
        ("delete 7", "no stop 7; there is none"),
        ("delete x", "give the numbers of stops"),
        ("watch eax +", "'eax \\+' is no expression"),
        ("watch op", "the running thread has no request: it neither makes, awaits nor serves one"),
        ("goto -5", "-5' is no moment: a number of instructions"),
        ("goto 999999999", "instruction 999,999,999 is not in the history"),
        ("back to nothing", "no event 'nothing'"),
        ("x/99999999b esp", "1 to 65536 are shown at once"),
        ("x 0x90000000", "no memory is mapped there"),
        ("set eax", "set what to what. set eax = 5, set .esp. = 0x10"),
        ("set [0x90000000] = 5", "no memory is mapped there"),
        ("walk", "walk to which address"),
        ("print 'a' * 1000000000", "only numbers can be added"),
        ("print 9 ** 9 ** 9", "operators are"),
        ("print 1 << 99999999999", "a shift is by 0 to 63 bits"),
        ("print 1 // 0", "division by zero"),
        ("print message.nothing", "neither makes, awaits"),
        ("print (lambda: 1)()", "not allowed here"),
        ("print eax.real.__class__", "not a field"),
        ("print " + "(" * 500, "is no expression"),
        ("print " + "~" * 5000 + "1", "is no expression|too deep"),
    ],
)
def test_what_cannot_be_done_is_told_and_moves_nothing(resting: Prompt, line: str, reason: str) -> None:
    prompt, stops = resting, resting.desk.bench.stops
    before = prompt.desk.bench.history.moment
    if line.startswith("break 0x100"):
        prompt.line(line)
        stops.clear()
        return
    with pytest.raises(CommandError, match=reason):
        prompt.line(line)
    assert prompt.desk.bench.history.moment == before


def test_tab_completes_words_of_commands(bench: Workbench) -> None:
    assert completions("ste", "ste") == ["step ", "stepi "]
    assert completions("p", "back p") == ["phase "]
    assert "break " in completions("b", "b")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("break take", ["take_slot"]),
        ("until ipc.rel", ["ipc.release", "ipc.reload"]),
        ("back to ipc.conv", ["ipc.convert"]),
        (
            "print message.e",
            ["message.eax", "message.ebx", "message.ecx", "message.edi", "message.edx", "message.eflags"],
        ),
        ("watch endpoint[1].fr", ["endpoint[1].free"]),
        ("why -c slot[5].cl", ["slot[5].client"]),
        ("break ipc.load if op == FREE_S", ["FREE_SPACE"]),
        ("x/4w [es", ["[esi", "[esp"]),
        ("break ", []),
        ("where take", []),
    ],
)
def test_tab_completes_names_in_the_arguments_of_commands(bench: Workbench, line: str, wanted: list[str]) -> None:
    word = line.rsplit(" ", maxsplit=1)[-1]
    found = completions(word, line, bench)
    assert set(wanted) <= set(found)
    assert all(name.startswith(word) for name in found)
    if not wanted:
        assert found == []
    assert completions(word, line) == [], "without a run only commands are known"


def test_no_name_means_two_commands_and_each_has_help(prompt: Prompt) -> None:
    assert len(by_name()) == sum(len(entry.names) for entry in COMMANDS)
    for entry in COMMANDS:
        assert entry.purpose in " ".join(said(prompt, f"help {entry.names[0]}").split())
    listed = said(prompt, "help").splitlines()
    for entry in COMMANDS:
        assert any(line.startswith(f"{entry.names[0]} {entry.arguments}".rstrip()[:70]) for line in listed), entry
    assert max(map(len, listed)) < 80, "a terminal has as many columns"


def test_ctrl_c_ends_a_command_and_not_the_conversation(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt.desk.bench.history.moment

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prompt.desk.bench.code, "instructions", interrupted)
    talk(prompt, io.StringIO("disassemble\nprint 5\n"))
    assert isinstance(prompt.output, io.StringIO)
    assert prompt.output.getvalue().splitlines() == ["interrupted", "0x5 = 5"]
    assert prompt.desk.bench.history.moment == before


def test_stops_of_a_process_hold_again_after_a_way_back_to_before_it_was_made(prompt: Prompt, bench: Workbench) -> None:
    """A restore makes other records of all processes: a stop knows its process by the number."""
    said(prompt, "tbreak gate.system if thread == 12")
    said(prompt, "continue")
    process = bench.debuggee.threads.running().process
    said(prompt, "finish")
    assert (process.name, bench.machine.cpu.cpl) == ("shell", 3)
    said(prompt, "watch [esp - 4]")
    said(prompt, "break shell:start")
    said(prompt, "goto start")
    assert process.number not in bench.system.kernel.state.tasks.processes
    stops = [said(prompt, "continue").splitlines()[:2] for _ in range(3)]
    assert "by policy, in the host call" in stops[0][0]  # it maps the stack
    assert [stop[0].split(":")[0] for stop in stops] == ["stop 2", "stop 3", "stop 2"]
    assert all("thread 12 'shell', ring 3" in stop[1] for stop in stops[1:])
    record = bench.system.kernel.state.tasks.processes[process.number]
    assert record is not process
    assert bench.debuggee.threads.running().process is record


def test_ctrl_c_within_many_steps_back_undoes_all_of_them(
    prompt: Prompt, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(prompt, "goto 0")
    machine = bench.machine
    monkeypatch.setattr(bench.history, "keep_checkpoint", lambda _spent=0.0: False)  # it comes by the routine each time
    bench.history.restart()
    bench.history.run(fuel=12_000)
    here, registers = bench.history.moment, machine.cpu.registers()
    interrupted = machine.probe("take_slot", machine.control.interrupt)
    for line in ("back stepi 400", ""):
        with pytest.raises(CommandError, match="interrupted; the system stands where it stood"):
            said(prompt, line) if line else prompt.line("back stepi 400")
        assert (bench.history.moment, machine.cpu.registers()) == (here, registers)
    machine.unprobe(interrupted)


def test_a_stop_that_is_disabled_ends_no_run_until_it_is_enabled_again(prompt: Prompt) -> None:
    said(prompt, "break ipc.take")
    take_slot = prompt.desk.bench.system.kernel.image.address("take_slot")
    said(prompt, "break take_slot")
    said(prompt, "break ipc.fill")
    said(prompt, "disable 1 3")
    assert said(prompt, "info break").splitlines() == [
        "  1  event ipc.take, disabled, 0 hits",
        f"  2  {take_slot:#x} <take_slot>, 0 hits",
        "  3  event ipc.fill, disabled, 0 hits",
    ]
    assert [said(prompt, "continue").split(":")[0] for _ in range(2)] == ["stop 2", "stop 2"]
    said(prompt, "enable 1")
    said(prompt, "disable 2")
    assert said(prompt, "continue").startswith("stop 1: event ipc.take")
    said(prompt, "delete 1")
    with pytest.raises(CommandError, match="no stop 1; there is 2, 3"):
        said(prompt, "enable 1")


def test_a_guest_that_has_switched_paging_on_without_pae_is_looked_at_and_gone_back_in(
    prompt: Prompt, bench: Workbench
) -> None:
    with pytest.raises(CommandError, match=r"instruction 4 is not in the history.*; sba 4 runs on to it"):
        prompt.line("goto 4")
    said(prompt, "sba 4")
    assert "mov cr4, eax" in said(prompt, "where")
    said(prompt, "set eax = 0")
    ended = said(prompt, "continue").splitlines()
    assert ended[0].endswith("does not have: only PAE paging is walked: set CR4.PAE before CR0.PG")
    assert "mov eax, 0xc010003c" in ended[2]
    for line in ("where", "x esp", "bt", "threads", "walk esp", "creg", "registers", "list", "disassemble eip 3"):
        said(prompt, line)
    why = "paging is on without PAE, and tables of 32-bit entries are not walked"
    assert f": {why}: taken for physical {bench.machine.cpu.esp:#x}" in said(prompt, "walk esp")
    with pytest.raises(CommandError, match=why):
        said(prompt, "info tab")
    assert "mov eax, 0x8001003b" in said(prompt, "why eax")
    assert "does not have" in said(prompt, "stepi")
    assert "mov cr0, eax" in said(prompt, "back stepi")
    assert bench.history.in_past


def test_a_breakpoint_in_the_first_code_of_the_kernel_holds_before_paging_is_on(
    prompt: Prompt, bench: Workbench
) -> None:
    said(prompt, "goto 0")
    said(prompt, "break boot.asm:40")
    said(prompt, "tbreak start_paged")
    assert "0x0010002e <start+0x2e>  mov cr0, eax" in said(prompt, "continue")
    assert "0xc010003c <start_paged>" in said(prompt, "continue")
    assert "0x0010002e <start+0x2e>  mov cr0, eax" in said(prompt, "back continue")
    assert bench.machine.position.retired == 12


def test_what_gdb_calls_registers_and_addresses_is_understood(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until take_slot")
    eip = bench.machine.cpu.eip
    assert said(prompt, "print $pc") == said(prompt, "print eip")
    assert said(prompt, "x/2i $pc") == said(prompt, "x/2i take_slot") == said(prompt, "disassemble eip 2")
    assert len(said(prompt, "x/2i $pc").splitlines()) == 2
    assert said(prompt, "x/4w $sp + 4") == said(prompt, "x/4w esp + 4")
    assert said(prompt, f"tbreak *{eip:#x}").endswith(f"{eip:#010x} <take_slot>\n")
    assert said(prompt, "why -c $ecx") == said(prompt, "why -c ecx")
    assert said(prompt, "py '$pc'") == "'$pc'\n"


def test_steps_back_over_a_handler_end_where_steps_forward_did_before_it_came(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "goto 0")
    after_hlt = bench.machine.address("idle") + 2
    said(prompt, f"until {after_hlt:#x}")  # idle runs on after the handler that has ended its HLT
    said(prompt, f"until {after_hlt:#x}")
    back = []
    for _ in range(6):
        said(prompt, "back step")
        back.append(bench.machine.position.retired)
    forward = []
    for _ in range(5):
        said(prompt, "step")
        forward.append(bench.machine.position.retired)
    assert forward == back[-2::-1]
    lines = [line for line in said(prompt, "list").splitlines() if "=>" in line]
    assert "hlt" in lines[0]
