"""A booted system in a REPL: threads by name, registers wherever they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.selectors import SELECTOR_USER_CODE
from callgate.kernel.system import System, SystemOptions

Booter = Callable[..., Any]


def test_registers_of_a_waiting_thread_are_in_its_gate_frame(boot: Booter) -> None:
    system = boot("hello", fuel=1).system
    while system.run(until="ipc.take") and "shell" not in system.kernel.scheduler.current.name:
        system.machine.step()
    shell = system.thread("shell")
    while shell.state == "running":
        system.machine.step()
    # The shell starts a program of the ROM by a system call: at the gate its EAX was the number of the call.
    assert shell.regs.eax == SystemCall.START_PROCESS
    assert shell.state == "waits for REPLY"
    assert shell.regs.cs == SELECTOR_USER_CODE
    assert shell.regs.eip in range(0x40_0000, 0x50_0000)


def test_a_running_thread_in_ring_3_shows_the_registers_of_the_cpu(boot: Booter) -> None:
    system = boot("hello", fuel=1).system
    while system.machine.cpu.cpl != 3 or "shell" not in system.kernel.scheduler.current.name:
        assert system.run(fuel=97).reason == "fuel"
    shell = system.thread("shell")
    assert shell.regs.eip == system.machine.cpu.eip
    assert shell.regs.esp == system.machine.cpu.esp
    before = (shell.regs.eip, shell.regs.esp)
    # An interrupt leaves a TrapFrame with just these.
    system.machine.pic.raise_line(4)
    while system.machine.cpu.cpl == 3:
        before = (system.machine.cpu.eip, system.machine.cpu.esp)
        system.machine.step()
    system.machine.step(30)
    assert system.machine.cpu.cpl == 0
    assert (shell.regs.eip, shell.regs.esp) == before
    assert shell.state == "running"
    assert repr(shell).startswith(f"<thread {shell.number} 'shell', running, ring 3 at 0x004")


def test_the_error_for_an_unknown_thread_name_lists_those_that_exist(boot: Booter) -> None:
    system = boot("hello", fuel=1).system
    system.run(until="ipc.post")
    with pytest.raises(KeyError, match="there are ageing, idle, releases, rom, shell"):
        system.thread("fat")
    with pytest.raises(LookupError, match="lives in ring 0"):
        _ = system.thread("idle").regs
    assert system.thread("rom").state.startswith(("waits for", "ready", "running"))
    with pytest.raises(AttributeError, match="no register 'rax'; there are eax"):
        _ = system.thread("rom").regs.rax


def test_a_run_can_be_ended_at_every_event_that_occurs(tmp_path: Path) -> None:
    options = SystemOptions(commands="dir; cat README.TXT; exit")
    kinds = set()
    with System([ImageFile(demo_image(tmp_path))], options) as system:
        system.trace(lambda event: kinds.add(event.kind))
        system.run(fuel=100_000_000)
        assert {"ipc.load", "ipc.reply", "disk.command", "interrupt", "thread.switch"} <= kinds
        assert kinds <= system.machine.stream.kinds | system.machine.event_sites.kinds


def test_a_label_of_a_server_ends_a_run_only_in_its_own_process(boot: Booter) -> None:
    system = boot("hello", fuel=1).system
    stop = system.machine.run(until="call")
    assert stop.detail.kind == "ipc.call"
    assert system.kernel.scheduler.current.process.program == "rom"
    assert system.machine.cpu.cpl == 3
