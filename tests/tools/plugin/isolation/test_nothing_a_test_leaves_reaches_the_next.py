"""A test that leaves a machine in any state, or something attached to it, does not reach the test after it."""

import struct

import pytest
from callgate.kernel.machine.blocks import kinds
from callgate.kernel.machine.cpu.paging import CR4_PAE
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.board import board
from callgate.tools.asmtest.board.programs import Programs
from callgate.tools.asmtest.booted import BootedSystem
from messes import ROUTINES, state_of
from plugin_runs import run_within
from unicorn import x86_const as x86

pytest_plugins = ["pytester"]


def flood(cpu):
    cpu.call("flood")


def a_few_pages(cpu):
    cpu.call("pages", edi=0x20000)


def more_pages_than_are_written_back(cpu):
    for start in (0x20000, 0x100000, 0x21000):
        cpu.call("pages", edi=start)


def code_by_the_guest(cpu):
    cpu.call("patch")
    assert cpu.call("double", eax=4).eax == 4


def code_by_the_host(cpu):
    cpu.write("double", b"\xc3")
    assert cpu.call("double", eax=4).eax == 4


def code_behind_the_machines_back(cpu):
    at = cpu.address("double")
    cpu.machine.ram.low[at : at + 1] = b"\xc3"


def page_tables(cpu):
    cpu.protect(board.ORIGIN, 4096, "none")
    cpu.machine.ram.put_u64(board.TABLES + 8 * 0x20, 0)
    cpu.machine.flush_tlb()
    assert cpu.call("count", faults=True).fault.name == "#PF"


def segments_and_a_ring(cpu):
    cpu.segment("gs", 0x30000)
    cpu.segment("ds", 0x1000, 0xFFFF)
    cpu.enter_ring(3)
    cpu.call("double")


def descriptor_tables_and_control_registers(cpu):
    cpu.write(0x20000, struct.pack("<HI", 0xFFF, 0x30000))
    cpu.call("tables")
    assert cpu.machine.cpu.table("idtr") == (0x30000, 0xFFF)
    assert cpu.machine.cpu.cr4 & ~CR4_PAE


def a_model_specific_register(cpu):
    before = cpu.machine.cpu.efer
    cpu.call("efer")
    assert cpu.machine.cpu.efer != before


def floating_point(cpu):
    cpu.write(0x20010, struct.pack("<II", 0x27F, 0x9FC0))
    cpu.call("floats", eax=7)
    assert cpu.machine.fpu.mxcsr == 0x9FC0


def devices(cpu):
    cpu.call("ports")
    cpu.machine.serial.feed(b"left over")
    assert cpu.machine.serial.state.lcr == 0x1B
    assert cpu.machine.timer.state.event


def registers_by_hand(cpu):
    for name in ("eax", "esp", "eip", "eflags"):
        setattr(cpu.machine.cpu, name, 0x1357)
    cpu.machine.cpu.uc.reg_write(x86.UC_X86_REG_XMM5, 1 << 100)


def a_device_by_hand(cpu):
    cpu.machine.pic.master.mask = 0
    cpu.machine.pic.raise_line(3)
    cpu.machine.timer.state.reload = 77


def counters_by_hand(cpu):
    cpu.machine.ledger.extra["requests"] += 5
    cpu.machine.ledger.host_calls["wake"] += 1
    cpu.machine.state.count += 100
    cpu.machine.clock.idle += 10**9


def a_routine_that_does_not_end(cpu):
    with pytest.raises(AssertionError):
        cpu.call("flood", fuel=10)


def an_answer_that_fails(cpu):
    cpu.on_host_call(0x21, lambda _value: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cpu.call("ports")


def a_breakpoint(cpu):
    cpu.machine.breakpoints.add(cpu.address("double"))
    cpu.machine.breakpoints.add(cpu.address("count"))
    cpu.machine.breakpoints.enabled = False


def probes_and_listeners(cpu):
    cpu.machine.probe(cpu.address("double"), lambda: 1 // 0)
    cpu.machine.stream.subscribe(lambda _event: 1 // 0)
    cpu.machine.on_interrupt = lambda: 1 // 0
    cpu.machine.dma_watch = lambda *_: 1 // 0


def a_request_to_stop(cpu):
    cpu.machine.request_stop("left over")
    cpu.machine.control.fail(ZeroDivisionError())
    cpu.machine.control.interrupt()


MESSES = [
    *(flood, a_few_pages, more_pages_than_are_written_back, code_by_the_guest, code_by_the_host),
    *(code_behind_the_machines_back, page_tables, segments_and_a_ring, descriptor_tables_and_control_registers),
    *(a_model_specific_register, floating_point, devices, registers_by_hand, a_device_by_hand, counters_by_hand),
    *(a_routine_that_does_not_end, an_answer_that_fails, a_breakpoint, probes_and_listeners, a_request_to_stop),
]


@pytest.fixture(scope="module")
def used_cpu():
    """A bare CPU that all these tests make a mess of, one after the other."""
    cpu = BareCpu(Programs())
    cpu.load(ROUTINES)
    yield cpu, state_of(cpu.machine)
    cpu.close()


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__)
def test_the_bare_cpu_is_in_each_test_what_it_was_in_the_first(used_cpu, mess):
    cpu, fresh = used_cpu
    cpu.reset()
    cpu.load(ROUTINES)
    mess(cpu)
    assert state_of(cpu.machine) != fresh, "the mess is none"
    cpu.attached.drop()
    cpu.reset()
    cpu.load(ROUTINES)
    assert state_of(cpu.machine) == fresh
    assert (cpu.call("double", eax=21).eax, cpu.call("count").instructions) == (42, 2)
    assert cpu.read(0x20000, 4) == b"\1\0\0\0"
    assert (cpu.machine.cpu.cpl, cpu.machine.fpu.mxcsr) == (0, 0x1F80)


@pytest.fixture(scope="module")
def used_system():
    """A booted system that all these tests make a mess of; `booted` has other images elsewhere.

    Its clock is the one that a machine chooses: what is translated when a test ends depends on it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(kinds.VARIABLE, raising=False)
        system = BootedSystem()
    yield system
    system.close()


def run_a_command(booted):
    assert booted.command("echo left over") == "left over\n"


def stop_within_a_request(booted):
    booted.type("ls")
    booted.run(fuel=5_000)


def type_and_leave(booted):
    booted.type("echo never read")


def kernel_memory(booted):
    low = booted.machine.ram.low
    for page in range(0x100000, 0x140000, 4096):
        low[page : page + 4] = b"mess"


def the_cpu_by_hand(booted):
    booted.machine.cpu.cr3 = 0x5000
    booted.machine.cpu.eip = 0x1234
    booted.machine.cpu.uc.reg_write(x86.UC_X86_REG_IDTR, (0, 0x1000, 7, 0))


def devices_of_the_system(booted):
    booted.machine.pic.master.mask = 0xFF
    booted.machine.timer.reset()
    booted.machine.devices["ahci"].ghc ^= 2


def attached_to_the_system(booted):
    booted.machine.breakpoints.add(booted.machine.cpu.eip)
    booted.machine.probe(booted.machine.cpu.eip, lambda: 1 // 0)
    booted.machine.stream.subscribe(lambda _event: 1 // 0)


BOOTED_MESSES = [
    *(run_a_command, stop_within_a_request, type_and_leave, kernel_memory, the_cpu_by_hand, devices_of_the_system),
    attached_to_the_system,
]


@pytest.mark.parametrize("mess", BOOTED_MESSES, ids=lambda mess: mess.__name__)
def test_the_booted_system_is_in_each_test_what_it_was_in_the_first(used_system, mess):
    used_system.reset()
    fresh = state_of(used_system.machine)
    mess(used_system)
    assert state_of(used_system.machine) != fresh, "the mess is none"
    used_system.leave()
    used_system.reset()
    assert state_of(used_system.machine) == fresh
    assert (used_system.output, used_system.log) == (b"", [])
    assert used_system.command("echo fresh") == "fresh\n"


def test_what_a_wider_fixture_has_attached_to_the_used_system_stays(used_system):
    seen = []
    listener = used_system.machine.stream.subscribe(seen.append)
    used_system.reset()
    used_system.leave()
    used_system.reset()
    used_system.command("echo")
    used_system.machine.stream.unsubscribe(listener)
    assert seen


LEAVING = """
import pytest

@pytest.mark.parametrize("time", range(2))
def test_it(bare_cpu, time):
    bare_cpu.load("f: mov eax, 5\\n ret\\n")
    assert bare_cpu.call("f").eax == 5
    bare_cpu.machine.breakpoints.add(bare_cpu.address("f"))
    bare_cpu.machine.probe(bare_cpu.address("f"), lambda: 1 // 0)

@pytest.mark.parametrize("time", range(2))
def test_booted(booted, time):
    assert booted.command("echo a") == "a\\n"
    booted.machine.stream.subscribe(lambda event: 1 // 0)
    booted.machine.breakpoints.add(booted.machine.cpu.eip)
"""


def test_the_fixtures_take_off_what_a_test_has_left_on_the_machine(pytester):
    pytester.makepyfile(test_it=LEAVING)
    pytester.path.joinpath("test_cases.asm").write_text(
        "f: mov eax, 5\n ret\n;@ case f\n;@ call f\n;@ expect eax = 5\n"
    )
    run_within(pytester, "test_it.py", "test_cases.asm").assert_outcomes(passed=5)
