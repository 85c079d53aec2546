"""A debugger for a machine without a kernel: forward, backward, and where a value comes from."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callgate.asm.assembler import Program, assemble_text
from callgate.kernel.machine import Machine
from callgate.kernel.system import System
from callgate.tools.debugger.attached import Attached, attach
from callgate.tools.debugger.target import NoKernel
from callgate.tools.debugger.workbench.failure import CommandError

SOURCE = """
start:  mov     esp, 0x8000
        mov     ecx, 5
again:  add     eax, ecx
        loop    again
        mov     [counter], eax
        call    twice
        mov     [counter], eax
done:   hlt
twice:  add     eax, eax
        out     0x10, eax
        ret
counter: .long  0
"""
PORT = 0x10


@pytest.fixture(scope="module")
def program() -> Program:
    return assemble_text(SOURCE, name="sums.asm", origin=0x1000)


@pytest.fixture
def asked() -> list[int]:
    """What the guest has asked the host."""
    return []


@pytest.fixture
def debugger(program: Program, asked: list[int]) -> Iterator[Attached]:
    with Machine(memory=1 << 20, high_memory=0) as machine:
        machine.ram.write(program.entry, program.sections[0].data)
        machine.cpu.eip = program.entry
        machine.host_calls.register(PORT, asked.append, "question")
        with attach(machine, program) as debugger:
            yield debugger


def states(debugger: Attached, move: Callable[[], object], count: int) -> list[Any]:
    found = []
    for _ in range(count):
        move()
        found.append((debugger.history.moment, debugger.machine.cpu.registers(), debugger.value("[counter]")))
    return found


def test_every_instruction_is_come_back_to_in_the_state_that_it_had(debugger: Attached) -> None:
    begin = states(debugger, lambda: None, 1)
    forward = states(debugger, debugger.step, 19)
    assert debugger.value("retired") == 19
    backward = states(debugger, debugger.back, 19)
    assert backward == [*reversed(forward[:-1]), *begin]
    assert not debugger.back()
    assert states(debugger, debugger.step, 19) == forward


def test_a_value_is_followed_to_the_constant_that_it_was_made_of(debugger: Attached) -> None:
    debugger.run(until="done")
    links = debugger.why("[counter]", most=9)
    assert [str(link.location) for link in links][1] == "eax"
    assert "mov dword ptr" in links[0].by
    assert "add eax, eax" in links[1].by
    debugger.back(4)
    (link,) = debugger.why("ecx")
    assert "loop" in link.by


def test_a_change_by_hand_is_named_as_what_has_set_a_value(debugger: Attached) -> None:
    debugger.step(3)
    debugger.history.set_register("eax", 77)
    assert debugger.why("eax")[0].by == "a change by hand"
    debugger.machine.write_physical(debugger.machine.addresses["counter"], b"\x05\0\0\0")
    assert debugger.why("[counter]")[0].by == "a change by hand"
    debugger.step(2)
    assert "add eax, ecx" in debugger.why("eax")[0].by
    debugger.run(until="done")
    assert "mov dword ptr" in debugger.why("[counter]")[0].by


def test_stops_frames_and_steps_over_calls_know_the_program(debugger: Attached) -> None:
    debugger.break_at("twice", "eax == 15")
    assert debugger.run().reason == "debugger breakpoint"
    assert [(frame.symbol, frame.source) for frame in debugger.backtrace()] == [
        ("twice", "sums.asm:10"),
        ("again+0xe", "sums.asm:7"),
    ]
    assert debugger.back()
    debugger.delete(1)
    debugger.step_over()
    assert debugger.where().endswith("<again+0xe>")
    number = debugger.watch("[counter]")
    stop = debugger.run()
    assert (stop.reason, stop.detail.by, debugger.value("[counter]")) == ("debugger watchpoint", "cpu", 30)
    stop = debugger.back_to_stop()
    assert stop is not None
    assert debugger.value("[counter]") == 15
    debugger.delete(number)


def test_a_part_that_is_repeated_calls_the_functions_of_host_calls_again(debugger: Attached, asked: list[int]) -> None:
    debugger.run(until="done")
    assert asked == [30]
    debugger.go(0)
    debugger.run(until="done")
    assert asked == [30, 30]


def test_what_only_a_kernel_has_is_refused_by_name(debugger: Attached) -> None:
    for action in (lambda: debugger.system, lambda: debugger.bench.debuggee.kernel, lambda: debugger.history.system):
        with pytest.raises(NoKernel, match="this machine has no kernel"):
            action()
    for text in ("slot[0].client", "message.error", "endpoint[1].free"):
        with pytest.raises(CommandError, match="this machine has no kernel"):
            debugger.value(text)
    with pytest.raises(CommandError, match="op: this machine has no kernel"):
        debugger.break_at("twice", "op == OPEN")
    with pytest.raises(NoKernel):
        debugger.break_at("slot 5")


def test_names_of_the_machine_are_used_where_no_program_is_named(program: Program) -> None:
    with Machine(memory=1 << 20, high_memory=0) as machine:
        machine.ram.write(program.entry, program.sections[0].data)
        machine.cpu.eip = program.entry
        machine.symbols = program.symbol_at
        machine.addresses = {"twice": program.address("twice")}
        with attach(machine) as debugger:
            debugger.run(until="twice")
            assert debugger.where().endswith("<twice>")
            assert debugger.backtrace()[0].symbol == "twice"


def test_a_program_is_not_named_for_a_system(boot_demo: Callable[[str], System], program: Program) -> None:
    with pytest.raises(ValueError, match="a system knows the programs that it runs"):
        attach(boot_demo("df"), program)
