"""Steps by source line.  The oracle steps by instruction and notes where the line changes."""

import pytest
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said


def line_beginnings(bench: Workbench, count: int) -> list[Moment]:
    """Return the next moments at which another line begins, without what handlers of interrupts do."""
    found: list[Moment] = []
    line, handlers = bench.lines.here(), 0
    while len(found) < count:
        delivered, instruction = bench.machine.position.delivered, bench.code.current()
        assert instruction is not None
        handlers -= instruction.mnemonic == "iretd" and handlers > 0
        bench.step()
        handlers += bench.machine.position.delivered > delivered
        if not handlers and bench.lines.here() != line:
            line = bench.lines.here()
            found.append(bench.history.moment)
    return found


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("begin", [3_200, 100, 13_120, 10_550])
def test_steps_by_line_stop_where_single_steps_come_to_another_line_and_go_back_the_same_way(
    bench: Workbench, begin: int
) -> None:
    bench.history.run(fuel=begin)
    origin = bench.history.moment
    expected = line_beginnings(bench, 15)
    bench.history.go(origin)
    forward = []
    for _ in expected:
        bench.lines.forward(bench.step)
        forward.append(bench.history.moment)
    assert forward == expected
    backward = []
    while bench.history.moment > expected[0] and bench.lines.backward(bench.back_step):
        backward.append(bench.history.moment)
    assert backward == expected[-2::-1]


def test_a_line_of_several_instructions_is_one_step(bench: Workbench) -> None:
    bench.stops.add("ipc_request", once=True)
    bench.run()
    longest = 0
    for _ in range(200):
        before = bench.machine.clock.retired
        bench.lines.forward(bench.step)
        longest = max(longest, bench.machine.clock.retired - before)
    assert longest > 1


def test_next_by_line_passes_a_call_that_step_enters_and_back_next_undoes_it(bench: Workbench) -> None:
    bench.stops.add("ipc_request", once=True)
    bench.run()
    bench.stops.clear()
    while (instruction := bench.code.current()) is not None and instruction.mnemonic != "call":
        bench.lines.forward(bench.step)
    begin, routine = bench.history.moment, bench.code.name(bench.machine.cpu.eip)[11:].split("+")[0]
    bench.lines.forward(bench.over)
    assert bench.code.name(bench.machine.cpu.eip)[11:].startswith(routine)
    assert bench.machine.clock.retired > begin.position.retired + 2
    assert bench.lines.backward(bench.back_over)
    assert bench.history.moment == begin
    bench.lines.forward(bench.step)
    assert not bench.code.name(bench.machine.cpu.eip)[11:].startswith(routine)


@pytest.mark.thorough(only=True)
def test_a_step_by_line_passes_handlers_of_interrupts_and_exceptions_both_ways(bench: Workbench) -> None:
    delivered: list[Moment] = []
    history = bench.history
    history.run()
    history.go(history.first)
    machine = bench.machine
    kinds = ["interrupt", "exception"]
    listener = machine.stream.subscribe(lambda _event: delivered.append(history.moment), kinds, again=True)
    history.run()
    machine.stream.unsubscribe(listener)
    passed = 0
    for moment in delivered:
        if moment.position.retired + 200 > history.edge.position.retired:
            continue
        history.go(history.moment_at(moment.position.retired))
        begin, thread = history.moment, bench.debuggee.threads.running()
        line = bench.lines.here()
        bench.lines.forward(bench.step)
        if bench.debuggee.threads.running() == thread and history.moment.position.retired > begin.position.retired + 5:
            passed += 1
            assert bench.lines.backward(bench.back_step)
            assert (bench.lines.here(), bench.debuggee.threads.running()) == (line, thread)
    assert passed


def test_code_of_the_kernels_half_cannot_be_shown_before_paging_is_on(prompt: Prompt) -> None:
    with pytest.raises(CommandError, match=r"0xc01[0-9a-f]+: no instruction can be read there"):
        prompt.line("disassemble exit_thread")


def test_a_system_that_has_ended_says_so_each_time_it_is_continued(prompt: Prompt) -> None:
    assert "the system has ended with status 0\n" in said(prompt, "continue")
    for _ in range(2):
        assert said(prompt, "continue").startswith("the system has ended with status 0, and goes on no further: ")
