"""Every use of a closed machine is an error, and never ends the process."""

import pytest
from callgate.kernel.machine import Machine

QUESTIONS = {
    "read": lambda m: m.read(0, 4),
    "write": lambda m: m.write(0, b"x"),
    "regs": lambda m: m.regs,
    "fpu": lambda m: m.fpu,
    "disassemble": lambda m: m.disassemble(0),
    "name_address": lambda m: m.name_address(0),
    "run": lambda m: m.run(),
    "step": lambda m: m.step(),
    "probe": lambda m: m.probe(0, print),
    "flush_tlb": lambda m: m.flush_tlb(),
    "code_changed": lambda m: m.code_changed(0, 4),
    "cpl": lambda m: m.cpu.cpl,
    "registers": lambda m: m.cpu.registers(),
    "segment_base": lambda m: m.cpu.segment_base("cs"),
    "save": lambda m: m.cpu.save(),
    "restore": lambda m: m.cpu.restore(),
    "paging mode": lambda m: m.paging.mode(),
    "translate": lambda m: m.paging.translate(0, user=False, write=False),
    "load": lambda m: m.descriptors.load(cs=8),
    "ram": lambda m: m.ram.u32(0),
}


@pytest.fixture(scope="module")
def closed() -> Machine:
    machine = Machine(memory=4 << 20, high_memory=0)
    machine.close()
    return machine


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_use_of_a_closed_machine_is_an_error(closed, name):
    with pytest.raises((ValueError, AttributeError), match=r"closed|released"):
        QUESTIONS[name](closed)


ENGINE = [lambda m: m.cpu.table("gdtr"), lambda m: m.cpu.efer, lambda m: m.translations.flush_code()]


@pytest.mark.parametrize("question", ENGINE)
def test_a_closed_machine_does_not_call_the_engine(closed, question):
    with pytest.raises(Exception, match="closed"):
        question(closed)


def test_a_closed_machine_can_be_shown_and_closed_again(closed):
    closed.close()
    assert repr(closed) == "<machine, closed>"


def test_a_slice_of_memory_outlives_the_machine():
    machine = Machine(memory=4 << 20, high_memory=4 << 20)
    machine.ram.write(0x100, b"abc")
    low, high = machine.ram.view(0x100, 3), machine.ram.view(1 << 32, 4)
    machine.close()
    low[0] = 0x41
    assert (bytes(low), bytes(high)) == (b"Abc", bytes(4))


def test_listening_to_an_event_that_does_not_exist_is_an_error(machine):
    with pytest.raises(KeyError, match=r"no event 'excepton'; there is exception"):
        machine.stream.subscribe(print, kinds=["excepton"])
    machine.event_sites.add(0x1000, "ipc.post")
    with pytest.raises(KeyError, match=r"no event 'ipc.pst'; there is ipc.post"):
        machine.stream.subscribe(print, kinds=["exception", "ipc.pst"])
    assert not machine.stream.active
    machine.stream.subscribe(print, kinds=["ipc.post", "int"])
