"""x87, MMX and SSE: where the engine behaves as a CPU, where it does not, and what is refused in its place."""

import math
import random

import pytest
from callgate.kernel.abi.fpu import FloatingPointArea
from callgate.kernel.machine.cpu.fpu import from_area, number

CODE, AREA, OTHER, MEMORY = 0x400000, 0x402000, 0x402200, 0x402400  # in the board's user memory
PHYSICAL = 0x300000 - CODE
CR0_MP, CR0_EM, CR0_TS, CR0_NE = 2, 4, 8, 0x20
OSFXSR = 0x600

X87 = ("fld1", "fninit", "fnstcw [0x402000]", "fnop", "fnclex", "fnstsw ax", "fnsave [0x402000]", "ffree st(0)")
MMX = ("emms", "paddb mm0, mm1", "movd mm0, eax")
SSE = ("movaps xmm0, xmm1", "addsd xmm0, xmm1", "pmulld xmm0, xmm1", "cvtsi2sd xmm0, eax", "stmxcsr [0x402000]")
STATE = ("fxsave [0x402000]", "fxrstor [0x402000]", "ldmxcsr [0x402000]")


class Ring3:
    """Runs code in ring 3 of a new machine each time, until it faults or comes to INT 80h."""

    def __init__(self, make):
        self.make = make

    def __call__(self, source, control=CR0_MP | CR0_NE, features=OSFXSR, code=b"", memory=()):
        self.board = board = self.make("native")
        self.machine = machine = board.machine
        board.answer = lambda _: machine.request_stop("host")
        board.boot("", user=(source + ";" if source else "") + "int 0x80")
        if code:
            machine.ram.write(0x300000, code + b"\xcd\x80")
        for address, data in dict(memory).items():
            machine.ram.write(PHYSICAL + address, data)
        machine.cpu.cr0 = machine.cpu.cr0 & ~0x2E | control
        machine.cpu.cr4 = features
        machine.run(fuel=100_000)
        return board.reports[-1].vector, board.reports[-1].eip

    @property
    def area(self):
        return FloatingPointArea.from_buffer_copy(self.machine.ram.read(PHYSICAL + AREA, 512))


@pytest.fixture
def ring_3(make_board):
    return Ring3(make_board)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("instruction", [*X87, *MMX, *SSE, *STATE, "fwait"])
def test_every_instruction_that_uses_floating_point_registers_is_nm_while_ts_is_set(ring_3, instruction):
    assert ring_3(f"nop; {instruction}", CR0_MP | CR0_TS | CR0_NE) == (7, CODE + 1)


@pytest.mark.parametrize("instruction", ["sfence", "mfence", "lfence", "prefetchnta [eax]", "movnti [0x402000], eax"])
def test_instructions_without_floating_point_registers_run_while_ts_is_set(ring_3, instruction):
    assert ring_3(instruction, CR0_MP | CR0_TS | CR0_NE)[0] == 0x80


def test_fwait_traps_only_with_mp(ring_3):
    assert ring_3("fwait", CR0_TS | CR0_NE)[0] == 0x80


def test_sse_is_an_invalid_opcode_until_osfxsr_is_set(ring_3):
    assert ring_3("movaps xmm0, xmm1", features=0)[0] == 6


def image(seed):
    """Return a FloatingPointArea with something in every field that the engine keeps."""
    made = random.Random(seed)
    area = FloatingPointArea(control=0x027F, status=0x3800, tags=0xB3, mxcsr=0x3F80 | made.getrandbits(6))
    for index in range(8):
        area.stack[16 * index : 16 * index + 10] = made.randbytes(10)
    area.xmm[:] = made.randbytes(128)
    return area


@pytest.mark.parametrize("seed", range(3))
def test_fxsave_writes_what_fxrstor_has_read(ring_3, seed):
    area = bytes(image(seed))
    ring_3(f"fxrstor [{OTHER}]; fxsave [{AREA}]", memory={OTHER: area})
    assert from_area(bytes(ring_3.area)) == from_area(area)
    assert ring_3.machine.fpu == from_area(area), "the facade reads all bits"


def test_fxrstor_does_not_bring_the_last_instructions_address_back_and_fninit_clears_it(ring_3):
    """So FXRSTOR alone would show where another program has computed (CVE-2006-1056, on some CPUs)."""
    area = image(0)
    area.instruction = 0x1234
    ring_3(f"fldpi; fxrstor [{OTHER}]; fxsave [{AREA}]", memory={OTHER: bytes(area)})
    assert ring_3.area.instruction == CODE
    ring_3(f"fldpi; fninit; fxrstor [{OTHER}]; fxsave [{AREA}]", memory={OTHER: bytes(area)})
    assert ring_3.area.instruction == 0


def test_rounding_follows_control_words_that_fxrstor_brings(ring_3):
    """A third, rounded up in SSE and towards zero in x87."""
    area = FloatingPointArea(control=0x0F7F, mxcsr=0x5F80)
    divide = "mov eax, 1; cvtsi2sd xmm0, eax; mov eax, 3; cvtsi2sd xmm1, eax; divsd xmm0, xmm1"
    source = f"fxrstor [{OTHER}]; {divide}; fld1; fidiv dword ptr [{MEMORY}]"
    ring_3(source, memory={OTHER: bytes(area), MEMORY: b"\3\0\0\0"})
    fpu = ring_3.machine.fpu
    assert fpu.xmm[0] & (1 << 64) - 1 == 0x3FD5555555555556
    assert fpu.raw[0] == 0x3FFD_AAAAAAAAAAAAAAAA


UNMASKED = {MEMORY: b"\x70\x03"}
DIVIDE = f"fninit; fldcw [{MEMORY}]; fld1; fldz; fdivp st(1), st(0)"
LENGTH = 14  # bytes of DIVIDE


def test_an_exception_that_is_not_masked_is_mf_at_the_next_instruction_that_waits(ring_3):
    assert ring_3(f"{DIVIDE}; fwait", memory=UNMASKED) == (16, CODE + LENGTH)
    assert ring_3.machine.fpu.status & 0x84 == 0x84
    assert ring_3(f"{DIVIDE}; fnstsw ax; fld1", memory=UNMASKED) == (16, CODE + LENGTH + 2)
    assert ring_3(f"{DIVIDE}; fnclex; fld1; faddp st(1), st(0)", memory=UNMASKED)[0] == 0x80
    invalid = f"fninit; fldcw [{MEMORY}]; fld1; fchs; fsqrt; fldcw [{MEMORY}]"
    assert ring_3(invalid, memory={MEMORY: b"\x7e\x03"}) == (16, CODE + 14)
    assert ring_3.machine.fpu.status & 0xBF == 0x81
    assert ring_3(invalid, memory={MEMORY: b"\x7b\x03"})[0] == 0x80


def test_a_pending_exception_survives_fxsave_and_fxrstor(ring_3):
    source = f"{DIVIDE}; fxsave [{AREA}]; fninit; fxrstor [{AREA}]"
    assert ring_3(f"{source}; fwait", memory=UNMASKED) == (16, CODE + LENGTH + 16)


VECTORS = {
    "vaddps xmm0, xmm1, xmm2": "c5f058c2",
    "vaddps ymm0, ymm1, ymm2": "c5f458c2",
    "vzeroupper": "c5f877",
    "vpshufb xmm0, xmm1, xmm2": "c4e27100c2",
    "vpextrd eax, xmm0, 1": "c4e37916c001",
    "lock andn": "f0c4e270f2c2",
    "VEX after an operand size": "66c4e270f2c2",
    "a map that is none": "c4e070f2c2",
    "vprotb (XOP)": "8fe97890c1",
    "POP with an opcode extension, then RDRAND": "8fe90fc7f0",
}


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("before", ["", "90", "83c404", "f8" * 40])
def test_an_instruction_with_vex_is_an_invalid_opcode(ring_3, vector, before):
    start = bytes.fromhex(before)
    assert ring_3("", code=start + bytes.fromhex(VECTORS[vector])) == (6, CODE + len(start))


def test_bmi_instructions_of_general_registers_work_though_they_have_vex(ring_3):
    """CPUID announces them; they need no OSXSAVE (SDM vol. 2, exception type 13)."""
    andn = "c4e270f2c2"  # andn eax, ecx, edx
    code = bytes.fromhex("b9f0f0f0f0" + "ba34127856" + andn)  # mov ecx, 0F0F0F0F0h; mov edx, 56781234h
    assert ring_3("", code=code)[0] == 0x80
    saved = ring_3.machine.paging.read_linear(ring_3.board.reports[-1].stack - 4, 4)  # EAX, by the stub
    assert int.from_bytes(saved, "little") == ~0xF0F0F0F0 & 0x56781234


def test_pop_to_memory_works(ring_3):
    assert ring_3("push 5; pop dword ptr [0x402000]")[0] == 0x80
    assert ring_3.area.control == 5


def test_les_and_lds_are_not_mistaken_for_vex(ring_3):
    """C4 and C5 with a memory operand: what lies there is a null selector, which LDS takes."""
    assert ring_3("", code=bytes.fromhex("c41d00204000"))[0] == 0x80


@pytest.mark.parametrize("code", ["0fae2500204000", "0fae2d00204000", "0fae3500204000", "0f01d0"])
def test_xsave_and_its_kin_are_invalid_while_osxsave_is_clear(ring_3, code):
    """XSAVE, XRSTOR, XSAVEOPT, XGETBV."""
    assert ring_3("", code=bytes.fromhex(code)) == (6, CODE)


@pytest.mark.parametrize(("value", "vector"), [(0x1F80, 0x80), (0xFFFF, 0x80), (0x11F80, 13), (0x80000000, 13)])
def test_reserved_bits_of_mxcsr_are_a_general_protection_fault(ring_3, value, vector):
    memory = {MEMORY: value.to_bytes(4, "little"), AREA: bytes(FloatingPointArea(control=0x37F, mxcsr=value))}
    assert ring_3(f"mov ecx, 1; ldmxcsr [{MEMORY - 4} + ecx * 4]", memory=memory)[0] == vector
    assert ring_3(f"mov ebx, {AREA}; fxrstor [ebx]", memory=memory)[0] == vector
    if vector == 13:
        assert ring_3.machine.fpu.mxcsr == 0x1F80, "nothing has been loaded"


def test_a_load_of_mxcsr_from_an_unmapped_page_is_a_page_fault(ring_3):
    assert ring_3("ldmxcsr [0x5f0000]")[0] == 14


@pytest.mark.parametrize("value", [0x1F80, 0xFFFFFFFF])
def test_a_load_of_mxcsr_does_not_tell_what_the_kernels_memory_holds(ring_3, value):
    """Its bits are read with the rights of ring 3: a page fault, whatever memory holds there."""
    secret = 0x402800  # physical 0x302800, which the kernel has at 0xC0302800
    vector, eip = ring_3("nop; ldmxcsr [0xc0302800]", memory={secret: value.to_bytes(4, "little")})
    assert (vector, eip, ring_3.machine.cpu.cr2) == (14, CODE + 1, 0xC0302800)


@pytest.mark.parametrize("prefix", ["", "67"])
def test_a_load_of_mxcsr_may_address_memory_in_every_way(ring_3, prefix):
    """Every ModR/M byte of LDMXCSR with a memory operand: a fault of the guest, or none."""
    registers = "; ".join(f"mov {name}, {MEMORY}" for name in ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"))
    setup = 7 * 5
    for modrm in (mode << 6 | 2 << 3 | register for mode in range(3) for register in range(8)):
        code = bytes.fromhex(prefix + "0fae") + bytes([modrm, 0x25, 0, 0x20, 0x40, 0, 0, 0])
        vector, _ = ring_3(registers + "; nop" * 40, memory={CODE + setup: code + b"\xcd\x80"})
        assert vector in (6, 13, 14, 0x80), code.hex()


def test_a_16_bit_address_wraps_in_the_check_of_mxcsr(ring_3):
    """What EBX has above BX is no part of the address: page 2 is the kernel's, so this is a page fault."""
    code = bytes.fromhex("67" + "0fae17")  # ldmxcsr [bx]
    bad = {MEMORY: (0xFFFFFFFF).to_bytes(4, "little"), CODE + 5: code}
    assert ring_3(f"mov ebx, {MEMORY}; nop; nop; nop; nop", memory=bad)[0] == 14


def test_floating_point_registers_are_part_of_a_machines_snapshot(board):
    board.boot("fninit; fldpi; fld1; pcmpeqd xmm3, xmm3; psrlq xmm3, 5; hlt; fninit; pxor xmm3, xmm3; fldz; hlt")
    machine = board.machine
    machine.cpu.cr4 = OSFXSR | 0x20
    machine.run(fuel=10_000)
    kept, before = machine.snapshot(), machine.fpu
    machine.run(fuel=100)
    machine.restore(kept)
    assert machine.fpu == before
    machine.close()
    with pytest.raises(ValueError, match="the machine is closed"):
        _ = machine.fpu
    assert before.st[:2] == (1.0, math.pi)
    assert before.xmm[3] == 0x07FFFFFFFFFFFFFF_07FFFFFFFFFFFFFF
    assert (before.top, before.used(0), before.used(1), before.used(2)) == (6, True, True, False)
    assert before.mm[7] == 0xC90FDAA22168C235
    assert "st1=4000c90fdaa22168c235 (3.141592653589793)" in before.describe()


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (0, 0.0),
        (0x3FFF_8000000000000000, 1.0),
        (0xBFFF_8000000000000000, -1.0),
        (0x7FFF_8000000000000000, math.inf),
        (0xFFFF_8000000000000000, -math.inf),
        (0x7FFE_FFFFFFFFFFFFFFFF, math.inf),
        (0x0000_0000000000000001, 0.0),
    ],
)
def test_an_80_bit_number_is_shown_as_the_nearest_float(raw, value):
    assert number(raw) == value
    assert math.isnan(number(0x7FFF_C000000000000000))
