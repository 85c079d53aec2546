"""The records of the coverage hook, in host code and in Python, compared with a run step by step."""

import struct

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.engine.executed import PASSED, RAN, TAKEN, Sheet, watch
from callgate.tools.asmtest.coverage.measuring import jump_target
from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from keystone import KS_ARCH_X86, KS_MODE_32, Ks

ORIGIN = 0x1FF8  # the program crosses the end of a page
PROGRAM = """
    mov ecx, 3; again: test cl, 1; jz even; inc eax; even: loop again
    jecxz zero; nop; zero: jmp on; never: jnz never
on: mov edx, 5; self: dec edx; jnz self; cmp edx, 1; ja near_end; cmp edx, 0; je near_end
    nop; near_end: hlt; jnz on
"""


def decoded(code):
    found = list(Cs(CS_ARCH_X86, CS_MODE_32).disasm_lite(code, ORIGIN))
    return {address: code[address - ORIGIN :][:size] for address, size, _, _ in found}


def machine_with(code, counter):
    machine = Machine(memory=1 << 20, high_memory=0, counter=counter)
    machine.ram.write(ORIGIN, code)
    machine.cpu.eip = ORIGIN
    return machine


def stepped(code, instructions):
    """Return what single steps tell: which addresses, and which way each conditional jump went."""
    flags = dict.fromkeys(instructions, 0)
    with machine_with(code, "auto") as machine:
        reason = "fuel"
        while reason == "fuel":
            at = machine.cpu.eip
            flags[at] |= RAN
            reason = machine.step().reason
            target = jump_target(instructions[at], at)
            if target and reason == "fuel":
                flags[at] |= TAKEN if machine.cpu.eip == target else PASSED
    return flags


@pytest.fixture
def program():
    code, _ = Ks(KS_ARCH_X86, KS_MODE_32).asm(PROGRAM.replace("\n", ";"), ORIGIN)
    return bytes(code)


@pytest.mark.parametrize("counter", ["native", "python"])
@pytest.mark.parametrize("fuel", [None, 1, 4])
def test_the_hook_for_executed_code_sees_what_single_steps_see(program, counter, fuel):
    """Cut into runs of a few instructions as well: a stop is not an execution, and no direction is lost at one."""
    instructions = decoded(program)
    jumps = {at: target for at, code in instructions.items() if (target := jump_target(code, at))}
    sheet = Sheet(jumps, [range(ORIGIN, ORIGIN + len(program))])
    with machine_with(program, counter) as machine:
        seen = watch(machine.handle.value, machine.state, native=machine.counter.native)
        seen.show(sheet)
        while machine.run(fuel=fuel).reason == "fuel":
            pass
    found = {at: sheet.flags(at) for at in instructions}
    assert found == stepped(program, instructions)
    assert {found[at] for at in jumps} >= {RAN | TAKEN, RAN | PASSED, RAN | TAKEN | PASSED, 0}


def test_an_instruction_that_the_counter_has_stopped_before_is_not_executed(program):
    sheet = Sheet({}, [range(ORIGIN, ORIGIN + len(program))])
    with machine_with(program, "auto") as machine:
        seen = watch(machine.handle.value, machine.state, native=True)
        seen.show(sheet)
        machine.run(fuel=1)
        assert (sheet.flags(ORIGIN), sheet.flags(machine.cpu.eip)) == (RAN, 0)
        seen.hide(sheet)
        machine.run(fuel=1)
        assert sheet.flags(ORIGIN + 5) == 0


def test_targets_of_conditional_jumps_are_those_that_a_decoder_finds():
    decoder = Cs(CS_ARCH_X86, CS_MODE_32)
    codes = [bytes([prefix, op, 0x85])[not prefix :] for prefix in (0, 0x2E, 0x3E) for op in range(256)]
    codes += [b"\x0f" + bytes([op]) + struct.pack("<i", -1000) for op in range(256)]
    for code in codes:
        found = next(iter(decoder.disasm_lite(code, 0x4000)), None)
        if found is None or found[1] != len(code):
            continue
        mnemonic = found[2].split()[-1]
        conditional = mnemonic.startswith(("j", "loop")) and mnemonic != "jmp"
        expected = int(found[3], 16) if conditional else 0
        assert jump_target(code, 0x4000) == expected, found
