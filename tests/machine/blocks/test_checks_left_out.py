"""Plain blocks do without the engine's checks after loads and stores, and stop as before where a device is touched."""

import ctypes

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks import accesses, known_checks
from callgate.kernel.machine.engine import untranslatable
from register_device import REGISTER, Register
from unicorn.unicorn_py3.unicorn import uclib

LOOP = "mov ecx, 3; l: {body}; dec ecx; jnz l; hlt"


@pytest.fixture
def left_out(monkeypatch):
    """The number of checks in each block, before and after some were left out."""
    numbers, leave_out = [], known_checks.leave_out

    def note(block, host, uc):
        leave_out(block, host, uc)
        after = ctypes.string_at(block.code, block.length)
        numbers.append(tuple(len(known_checks.checks(code, block.code, uc)) for code in (host, after)))

    monkeypatch.setattr(accesses, "leave_out", note)
    return numbers


@pytest.fixture
def run(assemble):
    """Run code at 0x1000 of a machine under a clock with a device; return machine and device after its HLT."""
    made = []

    def go(counter, body):
        machine = Machine(memory=8 << 20, high_memory=0, counter=counter)
        made.append(machine)
        machine.counter.patience = 0
        device = Register()
        machine.attach(device)
        machine.ram.write(0x1000, assemble(LOOP.format(body=body)))
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        assert machine.run(fuel=100_000).reason == "halt"
        return machine, device

    yield go
    for machine in made:
        machine.close()


def test_all_checks_but_that_after_the_hook_are_left_out(run, left_out):
    machine, _ = run("blocks", "mov eax, [0x5000]; inc dword ptr [0x5000]; push eax; pop ebx; cmp eax, ebx; adc edx, 0")
    assert machine.ram.read(0x5000, 1) == b"\3"
    assert (6, 1) in left_out
    assert {after for _, after in left_out} == {1}


def test_a_block_that_calls_another_routine_of_the_engine_keeps_its_checks(run, left_out):
    run("blocks", "mov eax, [0x5000]; xor edx, edx; div ecx; mov [0x5000], eax")
    assert (3, 3) in left_out


@pytest.mark.parametrize("access", ["mov eax, [{0}]", "mov [{0}], ecx", "inc dword ptr [{0}]", "push dword ptr [{0}]"])
def test_a_device_in_mid_block_is_asked_at_the_same_instants_under_both_clocks(run, access):
    body = f"mov ebx, [0x5000]; {access.format(REGISTER)}; mov [0x5004], eax; inc dword ptr [0x5008]"
    seen = []
    for counter in ("blocks", "native"):
        machine, device = run(counter, body)
        asked = (device.loads, device.stores)
        seen.append((*asked, machine.clock.retired, machine.cpu.registers(), machine.ram.read(0x5000, 16)))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) + len(seen[0][1]) >= 3


def test_an_engine_whose_check_is_otherwise_keeps_all_of_them(run, left_out, monkeypatch):
    monkeypatch.setattr(accesses, "exit_word", lambda *_: 0)
    machine, device = run("blocks", f"mov eax, [0x5000]; mov eax, [{REGISTER}]; inc dword ptr [0x5000]")
    assert machine.ram.read(0x5000, 1) == b"\3"
    assert len(device.loads) == 3
    assert left_out == []


def test_the_word_that_says_that_the_engine_is_to_stop_is_found(run, monkeypatch):
    seen = []

    def stop(device, _address, _size):
        machine = device.machine
        cpu = untranslatable.rescue().cpu(machine.handle)
        word = ctypes.c_int32.from_address(known_checks.exit_word(machine.handle.value, cpu))
        seen.append(word.value)
        uclib.uc_emu_stop(machine.handle)
        seen.append(word.value)
        seen.append(known_checks.exit_word(machine.handle.value, cpu + 64))
        return 0

    attach = Machine.attach
    monkeypatch.setattr(
        Machine, "attach", lambda machine, device: setattr(device, "machine", machine) or attach(machine, device)
    )
    monkeypatch.setattr(Register, "mmio_read", stop)
    run("native", f"mov eax, [{REGISTER}]")
    before, after, elsewhere = seen[:3]
    assert before >= 0
    assert after < 0
    assert elsewhere == 0


def test_a_routine_that_the_engine_does_not_export_is_not_found(monkeypatch):
    assert known_checks.routine("no_such_routine") == 0
    assert known_checks.check() in known_checks.library()
    monkeypatch.setattr(known_checks, "check", lambda: 0)
    assert known_checks.exit_word(0, 0) == 0


@pytest.mark.parametrize("before", ["be 00 48 03 7d", "90"])  # MOV ESI, an operand that looks like half of a look-up
def test_a_call_of_the_engine_is_seen_after_an_operand_of_the_guest_that_looks_like_a_look_up(before: str) -> None:
    engine = known_checks.library()
    assert known_checks.check() in engine
    called = engine.start  # a place of the engine's that is none of the routines that are known
    code = called - 0x10000
    host = bytes.fromhex(before)
    relative = called - (code + len(host) + 5)
    host += b"\xe8" + relative.to_bytes(4, "little", signed=True)
    assert not known_checks._harmless(host, code)
    assert known_checks._harmless(known_checks.LOOKED_UP + b"\x90" * 8, code)
