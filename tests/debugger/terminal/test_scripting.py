"""Python at the prompt."""

import pytest
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said


def test_an_expression_shows_its_value_and_a_statement_keeps_its_names(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until take_slot")
    assert said(prompt, "py machine.cpu.eip") == f"{bench.machine.cpu.eip}\n"
    assert said(prompt, "py found = [slot.state.name for slot in system.slots('d0p1')]") == ""
    assert said(prompt, "py for name in sorted(set(found)): print(name)") == "FREE\n"
    assert said(prompt, "py def twice(x): return 2 * x") == ""
    assert said(prompt, "py twice(history.moment.position.retired)") == f"{2 * bench.machine.clock.retired}\n"


@pytest.mark.parametrize(
    ("line", "last_line"),
    [
        ("py 1/0", "ZeroDivisionError: division by zero"),
        ("py machine.cpu.eaxx", "AttributeError: "),
        ("py if", "SyntaxError: invalid syntax"),
        ("py raise SystemExit(3)", "SystemExit: 3"),
        ("py", "py what"),
    ],
)
def test_an_exception_is_told_by_its_last_line(prompt: Prompt, line: str, last_line: str) -> None:
    with pytest.raises(CommandError) as told:
        said(prompt, line)
    assert str(told.value).startswith(last_line)
    assert "\n" not in str(told.value)


def test_a_change_in_the_past_begins_another_run_as_set_does(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until take_slot")
    said(prompt, "stepi 5")
    said(prompt, "back stepi 3")
    assert "the run goes another way" in said(prompt, "py machine.cpu.edi = 0xdead")
    assert not bench.history.in_past
    changed = bench.history.moment
    said(prompt, "stepi 2")
    said(prompt, "py history.go(history.first)")
    bench.history.go(changed)
    assert bench.machine.cpu.edi == 0xDEAD
    said(prompt, "stepi")
    said(prompt, "back stepi")
    assert "the run goes another way" in said(prompt, "py machine.write_physical(0x5000, b'abc')")


def test_the_machine_runs_by_its_history(prompt: Prompt, bench: Workbench) -> None:
    assert "fuel" in said(prompt, "py machine.run(fuel=5_000)")
    said(prompt, "py machine.step(3)")
    assert bench.history.edge.position.retired == bench.machine.clock.retired == 5_003
    assert bench.back_step()


def test_a_view_of_high_memory_is_not_kept_from_one_line_to_the_next(prompt: Prompt, bench: Workbench) -> None:
    said(prompt, "until take_slot")
    for line in ("py view = machine.ram.view(1 << 32, 8)", "py view = machine.ram.view(1 << 32, 8)[2:4]"):
        with pytest.raises(CommandError, match=r"^view: a view of high memory lasts for one line"):
            said(prompt, line)
        said(prompt, "back stepi")
    assert said(prompt, "py bytes(machine.ram.view(1 << 32, 4))") == "b'\\x00\\x00\\x00\\x00'\n"
    said(prompt, "py hidden = [machine.ram.view(1 << 32, 8)]")
    where = bench.history.moment
    with pytest.raises(CommandError, match="is still held: release it"):
        said(prompt, "goto start")
    assert bench.history.moment == where
    said(prompt, "py hidden.clear()")
    said(prompt, "goto start")
    assert bench.history.moment == bench.history.first
