"""IDIV of user code is looked at by host code, which asks Python only if the dividend may be the smallest there is."""

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.engine.sites import DIVIDES
from callgate.kernel.machine.filters.divisions import may_overflow

HALVES = (0, 1, 0x7FFF, 0x8000, 0x8001, 0x1_8000, 0x7FFF_8000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF)


@pytest.mark.parametrize("upper", HALVES, ids=hex)
def test_host_code_asks_about_the_same_dividends_as_python(bare, upper):
    machine = bare(f"mov edx, {upper}; mov ecx, 3; again: nop; dec ecx; jnz again; hlt")
    asked = []
    machine.counter.sites.call(0x100A, lambda: asked.append(machine.cpu.edx), DIVIDES)
    counted = machine.counter.sites.count(0x100A)
    machine.run()
    assert asked == ([upper] * 3 if may_overflow(upper) else [])
    assert counted.count == 3


def test_a_probe_on_a_division_is_called_whatever_it_divides(bare):
    machine = bare("mov eax, 100; cdq; mov ecx, 7; idiv ecx; hlt")
    seen = []
    machine.probe(0x100B, lambda: seen.append(machine.cpu.eax))
    machine.run()
    assert seen == [100]
    assert (machine.cpu.eax, machine.cpu.edx) == (14, 2)


def test_an_instruction_that_takes_the_place_of_a_division_is_looked_at(bare):
    machine = bare("mov eax, 100; cdq; mov ecx, 7; idiv ecx; hlt")
    assert machine.run().reason == "halt"
    machine = bare("mov eax, 100; cdq; mov ecx, 7; rdrand edx; hlt")
    machine.cpu.eip = 0x1000
    assert machine.run().reason == "triple-fault"  # #UD, for which there is no handler
    assert machine.cpu.edx == 0


@pytest.mark.parametrize("counter", ["native", "python"])
def test_the_smallest_number_by_minus_one_does_not_end_the_host(assemble, counter):
    with Machine(memory=8 << 20, high_memory=0, counter=counter) as machine:
        machine.ram.write(0x1000, assemble("mov edx, 0x80000000; xor eax, eax; mov ecx, -1; idiv ecx; hlt"))
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        assert machine.run().reason == "triple-fault"  # #DE, for which there is no handler
