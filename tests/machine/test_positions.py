"""Positions: every boundary between two instructions can be named, and found again in another run."""

from itertools import pairwise

import pytest
from callgate.asm.assembler import assemble_text
from callgate.kernel.machine import Machine
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System

FOREVER = 1 << 62


def positions(machine, count):
    """Return the positions that a run passes, found one by one."""
    found = [machine.position]
    while len(found) < count:
        here = machine.position
        if machine.run(goal=here._replace(delivered=here.delivered + 1, clock=0)).reason != "position":
            break
        found.append(machine.position)
    return found


def fingerprint(machine):
    machine.runner.settle()
    return machine.cpu.registers(), machine.clock.now, repr(machine.ledger), bytes(machine.ram.low[:0x200000])


def ready_system():
    system = System()
    system.run(fuel=FOREVER)
    system.machine.serial.feed(b"echo one\n")
    return system


def test_one_step_is_one_instruction_or_one_delivery():
    with ready_system() as system:
        found = positions(system.machine, 600)
    assert len(found) == 600
    assert found == sorted(set(found))
    assert {later.retired - earlier.retired for earlier, later in pairwise(found)} == {0, 1}
    assert sum(position.delivered > 0 for position in found) > 0


@pytest.mark.parametrize("part", range(4))
def test_a_run_to_a_position_stands_where_single_steps_stood(part, some_of):
    with ready_system() as system:
        machine, start = system.machine, system.snapshot()
        for position in some_of(positions(machine, 400)[1 + part :: 40], 3):
            system.restore(start)
            assert machine.run(goal=position).reason == "position"
            assert machine.position == position
            far = fingerprint(machine)
            system.restore(start)
            while machine.position < position:
                here = machine.position
                machine.run(goal=here._replace(delivered=here.delivered + 1, clock=0))
            assert fingerprint(machine) == far


def test_a_handler_that_cannot_be_fetched_gives_a_position_for_each_delivery():
    with Machine(memory=8 << 20, high_memory=0) as machine:
        program = assemble_text("start: ud2\n", origin=0x1000)
        machine.ram.write(program.entry, program.sections[0].data)
        machine.cpu.eip = program.entry
        stop = machine.run(goal=Position(0, 2))
        assert stop.reason == "triple-fault"  # there is no IDT
        assert machine.position == Position(0, 1)


def test_a_halted_machine_stays_halted_when_it_runs_on():
    with Machine(memory=8 << 20, high_memory=0) as machine:
        program = assemble_text("start: hlt\n mov eax, 5\n hlt\n", origin=0x1000)
        machine.ram.write(program.entry, program.sections[0].data)
        machine.cpu.eip = program.entry
        first = machine.run()
        assert (first.reason, first.retired) == ("halt", 1)
        assert (machine.run().reason, machine.clock.retired, machine.cpu.eax) == ("halt", 1, 0)
        kept = machine.snapshot()
        machine.cpu.eip = program.entry + 1
        assert (machine.run().reason, machine.cpu.eax) == ("halt", 5)
        machine.restore(kept)
        assert (machine.run().reason, machine.clock.retired, machine.cpu.eax) == ("halt", 1, 0)
