"""Floating-point and segment registers of threads that are changed by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.debuggee import Debuggee
from callgate.tools.debugger.debuggee.going_back import GoingBack
from callgate.tools.debugger.debuggee.registers import NotWritable
from callgate.tools.debugger.history import History

Boot = Callable[[str], System]
READ = bytes.fromhex("660f7ec0")  # movd eax, xmm0
VALUE = 0x1234_5678


def at_a_system_call(debuggee: Debuggee) -> int:
    """Run to the shell's first system call; return where it goes on in ring 3."""
    debuggee.breakpoints.add(debuggee.kernel.image.address("system_gate"))
    while debuggee.threads.running().name != "shell":
        debuggee.run()
    debuggee.breakpoints.clear()
    return int.from_bytes(debuggee.machine.read(debuggee.machine.cpu.esp, 4), "little")


def test_a_thread_finds_the_xmm_register_that_was_set_while_it_did_not_own_the_unit(boot_demo: Boot) -> None:
    """By the first use (#NM), as owner, and after another thread has taken the unit."""
    system = boot_demo("dir")
    debuggee = Debuggee(system)
    back = at_a_system_call(debuggee)
    registers, machine = debuggee.registers, debuggee.machine
    shell = debuggee.threads.running()
    server = next(thread for thread in debuggee.threads if thread.name.startswith("hosted:d0p1"))
    before = machine.fpu
    registers.set(shell, "xmm0", VALUE)
    registers.set(server, "xmm0", VALUE + 1)
    assert machine.fpu == before, "no thread owns the unit"
    assert registers.floating(shell).xmm[0] == VALUE
    assert registers.floating(server).xmm[0] == VALUE + 1
    assert system.kernel.fpu.check() == []

    assert debuggee.memory.write(shell.process, back, READ + READ)
    machine.run(until=back)
    machine.run(until="trap_7")
    with pytest.raises(NotWritable, match="xmm0: the registers are being handed to another thread"):
        registers.set(shell, "xmm0", 0)
    machine.run(until=back + 4)
    assert machine.cpu.eax == VALUE
    assert system.kernel.fpu.live
    registers.set(shell, "xmm0", VALUE + 2)
    assert machine.fpu.xmm[0] == VALUE + 2
    debuggee.step()
    assert machine.cpu.eax == VALUE + 2
    registers.set(server, "st0", 5)
    assert (machine.fpu.raw[0], registers.floating(server).raw[0]) == (0, 5)
    assert system.kernel.fpu.check() == []


def test_what_no_thread_has_or_no_instruction_loads_cannot_be_set_and_the_reason_is_said(boot_demo: Boot) -> None:
    debuggee = Debuggee(boot_demo("dir"))
    boot = debuggee.threads.running()
    with pytest.raises(NotWritable, match="no thread has the floating-point registers yet"):
        debuggee.registers.set(boot, "xmm0", 1)
    at_a_system_call(debuggee)
    shell = debuggee.threads.running()
    for name, value, why in (
        ("fs", 0xFFF8, "beyond the table's limit"), ("gs", 0xFF04, "#GP"),
        ("ss", 0x23, "the CPU is in ring 0"), ("cs", 0x1B, "no jump from ring 0 comes to"),
        ("fs_base", 0, "change fs"), ("gdtr_limit", 0, "LGDT loads it"), ("cpl", 3, "by a gate or a return"),
        ("mxcsr", 0x10000, "reserved"), ("fop", 1, "does not keep it"), ("cr4", 0, "PAE"),
    ):  # fmt: skip
        with pytest.raises(NotWritable, match=why):
            debuggee.registers.set(shell, name, value)


def test_a_register_set_in_the_past_begins_another_run_which_is_the_same_again(boot_demo: Boot) -> None:
    system = boot_demo("dir")
    history = History(system)
    debuggee = Debuggee(system)
    GoingBack(debuggee, history)
    back = at_a_system_call(debuggee)
    shell = debuggee.threads.running()
    here = history.moment
    history.run(fuel=50)
    history.go(here)
    branched: list[object] = []
    history.branched.append(branched.append)
    debuggee.registers.set(debuggee.threads.running(), "xmm0", VALUE)
    debuggee.registers.set(debuggee.threads.running(), "gs", 0x10)
    assert branched == [here]
    assert debuggee.memory.write(shell.process, back, READ)
    history.run(until=back)
    history.run(until=back + 4)
    assert debuggee.machine.cpu.eax == VALUE
    after = history.moment, debuggee.machine.cpu.registers()
    history.go(history.first)
    history.go(after[0])
    assert (history.moment, debuggee.machine.cpu.registers()) == after
