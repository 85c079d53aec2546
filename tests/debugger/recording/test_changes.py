"""What Python changes of a machine is found by comparing its states, and can be done to another machine."""

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.outside import SetUp
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.board.board import MEMORY
from callgate.tools.recording import difference, state_of
from callgate.tools.recording.changes import NOTHING, make
from callgate.tools.recording.lines import plain_set_up, set_up

ROUTINE = """
f:      fld1
        fldpi
        fldl2e
        fstp    st(0)
        mov     eax, 0x3f800000
        movd    xmm3, eax
        cld
        std
        stc
        ret
"""


@pytest.fixture
def cpu():
    cpu = BareCpu()
    yield cpu
    cpu.close()


@pytest.fixture
def other():
    with Machine(memory=MEMORY, high_memory=0) as machine:
        yield machine


def test_another_machine_gets_every_register_flag_segment_and_byte(cpu, other):
    cpu.load(ROUTINE)
    cpu.write(0x30000, bytes(range(256)) * 33)
    cpu.enter_ring(3)
    cpu.segment("fs", 0x12345)
    cpu.call("f", mxcsr=0x1FA0)
    make(other, set_up(plain_set_up(difference(NOTHING, state_of(cpu.machine)))))
    assert other.cpu.registers() == cpu.machine.cpu.registers()
    assert repr(other.fpu) == repr(cpu.machine.fpu)  # read in another way, with the tags
    assert [other.fpu.used(index) for index in range(8)] == [True, True, *[False] * 6]
    assert (other.cpu.cpl, other.cpu.segment_base("fs")) == (3, 0x12345)
    assert other.ram.read(0, MEMORY) == cpu.machine.ram.read(0, MEMORY)
    assert other.paging.walk(0x30000) == cpu.machine.paging.walk(0x30000)
    assert [other.cpu.table(name) for name in ("gdtr", "idtr")] == [
        cpu.machine.cpu.table(name) for name in ("gdtr", "idtr")
    ]


def test_a_difference_names_what_has_changed_and_nothing_else(cpu):
    cpu.load(ROUTINE)
    before = state_of(cpu.machine)
    assert difference(before, state_of(cpu.machine)) == SetUp()
    cpu.machine.cpu.ebx = 7
    cpu.machine.ram.write(0x2FFE, b"1234")
    cpu.machine.ram.write(0x40000, b"a")
    changes = difference(before, state_of(cpu.machine))
    assert changes == SetUp(((0x2FFE, b"12"), (0x3000, b"34"), (0x40000, b"a")), (("ebx", 7),))
    cpu.machine.ram.write(0x40000, b"\0")
    assert difference(state_of(cpu.machine), before).memory == ((0x2FFE, b"\0\0"), (0x3000, b"\0\0"))
