"""The register stack of x87, its exceptions and FBSTP: the host's own CPU says what is right."""

import random

import emulated_float
import host_float
import pytest
from callgate.kernel.machine.filters.suspects import decode
from callgate.kernel.machine.filters.x87 import fits_bcd
from host_float import Request, fresh

ONE, PI = 0x3FFF << 64 | 1 << 63, 0x4000 << 64 | 0xC90FDAA22168C235
NUMBERS = (0, 1 << 79, ONE, ONE | 1 << 79, 0x7FFF << 64 | 1 << 63, PI, 0x7FFF << 64 | 3 << 62, 0x403E << 64 | 1 << 63,
           0x3FFE << 64 | 1 << 63, 0x3FFD << 64 | 0xAAAAAAAAAAAAAAAB)  # fmt: skip
NO_WAIT = tuple(
    bytes([0xDB, modrm]) for modrm in range(0xE0, 0xE8)
)  # FNCLEX, FNINIT and instructions without effect on later CPUs
# Instructions that the engine computes otherwise, stack fault or not (docs/emulator-notes.md).
OTHERWISE = ("fyl2x", "fyl2xp1", "fxtract", "fisttp", "fsin", "fcos", "fsincos", "fptan", "fpatan", "f2xm1", "fsqrt",
             "fscale", "fprem", "fprem1", "fdiv", "fdivr", "fdivp", "fdivrp", "fidiv", "fidivr", "frstor", "fldenv",
             "fnsave", "fnstenv", "fstpnce")  # fmt: skip
ROUNDED_UP = 0x200  # C1, where it is not a stack fault


def instructions() -> list[bytes]:
    """Every x87 instruction, with [ECX] in memory."""
    codes = [bytes([opcode, modrm]) for opcode in range(0xD8, 0xE0) for modrm in range(0xC0, 0x100)]
    codes += [bytes([opcode, group << 3 | 1]) for opcode in range(0xD8, 0xE0) for group in range(8)]
    return [code for code in codes if code not in NO_WAIT and decode(code) is not None]


def requests(seed: int, count: int) -> list[Request]:
    made = random.Random(seed)
    found = []
    for code in made.choices(instructions(), k=count):
        area = fresh()
        area.tags = made.choice((0, 0xFF, made.getrandbits(8), made.getrandbits(8)))
        area.status = made.randrange(8) << 11
        for index in range(8):
            area.stack[16 * index : 16 * index + 10] = made.choice(NUMBERS).to_bytes(10, "little")
        memory = made.choice(NUMBERS).to_bytes(16, "little")
        found.append(Request(code, area, memory * 4, offset=16))
    return found


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("seed", range(8))
def test_stack_faults_and_the_state_they_leave_are_those_of_the_hosts_cpu(seed):
    asked = requests(seed, 250)
    faults = 0
    for request, host, our in zip(asked, host_float.ask(asked), emulated_float.ask(asked), strict=True):
        name = decode(request.code).mnemonic
        fault = host.area.status & 0x40
        if name in OTHERWISE and not (fault and name in ("fdiv", "fdivr", "fdivp", "fdivrp", "fidiv", "fidivr")):
            continue
        faults += bool(fault)
        what = name, request.code.hex(), hex(request.area.tags), hex(request.area.status)
        ignored = 0 if fault else ROUNDED_UP
        assert our.area.status & ~ignored == host.area.status & ~ignored, what
        assert our.area.tags == host.area.tags, what
        assert (our.memory, our.eflags & 0x45) == (host.memory, host.eflags & 0x45), what
        for index in range(8):
            if our.area.tags >> (index + (our.area.status >> 11) & 7) & 1:
                at = slice(16 * index, 16 * index + 10)
                assert bytes(our.area.stack[at]) == bytes(host.area.stack[at]), (what, index)
    assert faults > 50


@pytest.mark.parametrize("rounding", range(4))
def test_fbstp_of_a_number_without_bcd_form_stores_the_indefinite(rounding):
    limit = 10**18
    values = [0x7FFF << 64 | 1 << 63, 0x7FFF << 64 | 3 << 62, 0x403E << 64 | 1 << 63, PI]
    for quarters in range(-6, 7):
        scaled = 4 * limit + quarters
        exponent = scaled.bit_length() - 1
        values.append(16383 + exponent - 2 << 64 | scaled << 63 - exponent)
    asked = []
    for value in values + [value | 1 << 79 for value in values]:
        area = fresh()
        area.tags, area.control = 1, 0x37F | rounding << 10
        area.stack[:10] = value.to_bytes(10, "little")
        asked.append(Request(b"\xdf\x31", area, offset=16))
    hosts, ours = host_float.ask(asked), emulated_float.ask(asked)
    assert [our.memory for our in ours] == [host.memory for host in hosts]
    assert [our.area.status & ~ROUNDED_UP for our in ours] == [host.area.status & ~ROUNDED_UP for host in hosts]
    assert not fits_bcd(values[0], rounding)


def test_host_code_and_python_agree_about_x87():
    asked = requests(99, 120)
    native, python = emulated_float.ask(asked), emulated_float.ask(asked, "python")
    assert [bytes(answer.area) for answer in native] == [bytes(answer.area) for answer in python]
    assert [answer.memory for answer in native] == [answer.memory for answer in python]


ALL = """
    fninit; fld1; fldpi; fst st(3); fnstsw [0x3000]; fadd st(0), st(3); fnstsw [0x3002]
    fadd st(0), st(6); fnstsw [0x3004]
    fldz; fldz; fldz; fldz; fldz; fldz; fnstsw [0x3006]; fld1; fnstsw [0x3008]; fbstp [0x3010]; fnstsw [0x300a]; hlt
"""


def test_a_run_with_x87_is_the_same_wherever_it_is_cut(bare):
    machine = bare(ALL)
    start = machine.snapshot()
    assert machine.run().reason == "halt"
    whole = machine.fpu, machine.ram.read(0x3000, 32), machine.clock.retired
    words = [machine.ram.u16(0x3000 + at) for at in range(0, 12, 2)]
    assert words[0] & 0x7F == words[1] & 0x5F == 0, "what FST has copied to can be used"
    assert words[2] & 0x241 == 0x41
    assert words[4] & 0x241 == 0x241
    machine.restore(start)
    while machine.run(fuel=1).reason == "fuel":
        machine.restore(machine.snapshot())
    assert (machine.fpu, machine.ram.read(0x3000, 32), machine.clock.retired) == whole


def test_a_stack_fault_at_a_breakpoint_occurs_only_when_its_instruction_executes(bare):
    machine = bare("fninit; fldz; fadd st(0), st(1); fnstsw ax; hlt")
    machine.breakpoints.add(0x1004)
    assert machine.run().reason == "breakpoint"
    assert (machine.fpu.tags, machine.fpu.status & 0x41) == (0x80, 0)
    kept = machine.snapshot()
    for _ in range(2):
        assert machine.run().reason == "halt"
        assert (machine.cpu.eax & 0xFFFF, machine.fpu.tags) == (0x3841, 0x80)
        machine.restore(kept)


def test_a_fault_of_the_operand_leaves_an_empty_register_empty(board):
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("", user="fninit; fadd dword ptr [0x5f0000]; hlt")
    board.machine.cpu.cr0 = board.machine.cpu.cr0 & ~0x2E | 0x22
    board.machine.run(fuel=1000)
    assert (board.reports[-1].vector, board.machine.fpu.tags) == (14, 0)


def test_an_x87_instruction_while_ts_is_set_changes_nothing(board):
    """The registers are another thread's then: neither flags nor tags of its are to change before #NM."""
    machine = board.machine
    cpu = machine.cpu

    def answer(report):
        if report.vector == 7:
            machine.request_stop("host")
        floating = machine.filters.floating
        floating.environment.put(floating.layout.x87_status, ROUNDED_UP, 2)
        cpu.cr0 |= 8

    board.answer = answer
    user = "fninit; call f; int 0x80; call f; hlt; f: fadd st(0), st(1); fnclex; fst st(5); ffree st(5); ret"
    board.boot("", user=user)
    cpu.cr0, cpu.cr4 = cpu.cr0 & ~0x2E | 0x22, 0x620
    while machine.run(fuel=1).reason == "fuel" and not cpu.cr0 & 8:
        pass
    before = machine.fpu
    machine.run(fuel=1000)
    assert board.reports[-1].vector == 7
    assert machine.fpu == before
