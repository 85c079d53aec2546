"""Alignment, exceptions and string comparisons of SSE: the host's own CPU says what is right."""

import random
import struct
from collections.abc import Iterator
from itertools import pairwise

import emulated_float
import host_float
import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.filters.filters import FORMS
from callgate.kernel.machine.filters.simd import looks, wants_alignment
from callgate.kernel.machine.filters.suspects import LOOK, decode
from host_float import GENERAL_PROTECTION, SIGFPE, SIGILL, SIGSEGV, UNMAPPED, Request, fresh

PREFIXES = (b"", b"\x66", b"\xf2", b"\xf3", b"\x66\xf2", b"\x66\xf3", b"\xf3\x66", b"\x2e\x66", b"\x66\x3e")
WITH_NUMBER = (0x70, 0x71, 0x72, 0x73, 0xC2, 0xC4, 0xC5, 0xC6)  # 0F opcodes with an immediate byte
# #UD on this CPU: CR4.OSXSAVE is clear, and SHA and GFNI are not announced by CPUID.
NOT_HERE = (
    *("xsave", "xsaveopt", "xrstor", "sha1nexte", "sha1msg1", "sha1msg2", "sha1rnds4", "sha256rnds2", "sha256msg1"),
    *("sha256msg2", "gf2p8mulb", "gf2p8affineqb", "gf2p8affineinvqb"),
)
DENORMAL = 0x02  # DE
SINGLE = (0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FA00000, 0x00000001,
          0x00800000, 0x7F7FFFFF, 0x40400000, 0x5F000000, 0x4F000000, 0x33800000)  # fmt: skip
DOUBLE = (*(value << 48 for value in (0, 0x8000, 0x3FF0, 0x7FF0, 0xFFF0, 0x7FF8, 0x7FF4, 0x4008, 0x43E0, 0x41E0)),
          1, 1 << 52, 0x7FEFFFFFFFFFFFFF, 0x3CA << 52)  # fmt: skip


def memory_forms() -> Iterator[bytes]:
    """Every opcode of SSE with [ECX] as its operand in memory, and FXSAVE and its neighbours."""
    two = [*range(0x10, 0x18), *range(0x28, 0x30), *range(0x50, 0x77), *range(0x78, 0x80), 0xC2, 0xC4, 0xC5, 0xC6]
    opcodes = [bytes([0x0F, opcode]) for opcode in [*two, *range(0xD0, 0x100)]]
    opcodes += [bytes([0x0F, kind, opcode]) for kind in (0x38, 0x3A) for opcode in range(256)]
    for opcode in opcodes:
        number = b"\0" if opcode[1] == 0x3A or (len(opcode) == 2 and opcode[1] in WITH_NUMBER) else b""
        for prefix in PREFIXES:
            yield prefix + opcode + b"\x01" + number
    yield from (bytes([0x0F, 0xAE, group << 3 | 1]) for group in range(8))


def misaligned_on_the_host() -> tuple[dict[bytes, bool], list[bytes]]:
    """Return which instructions the host refuses unless [ECX] is aligned, and those that it refuses before a #PF."""
    codes = list(memory_forms())
    found = [host_float.ask([Request(code, offset=offset) for code in codes]) for offset in (256, 257, UNMAPPED + 1)]
    wanted, first = {}, []
    for code, aligned, misaligned, nothing in zip(codes, *found, strict=True):
        instruction = decode(code)
        if not aligned.signal and (instruction is None or instruction.mnemonic not in NOT_HERE):
            wanted[code] = (misaligned.signal, misaligned.reason) == (SIGSEGV, GENERAL_PROTECTION)
            if (nothing.signal, nothing.reason) == (SIGSEGV, GENERAL_PROTECTION):
                first.append(code)
    return wanted, first


@pytest.mark.thorough(only=True)
def test_an_operand_has_to_be_aligned_where_the_hosts_cpu_wants_it_and_nowhere_else():
    wanted, before_page_fault = misaligned_on_the_host()
    assert sum(wanted.values()) > 170
    assert {code.hex() for code, aligned in wanted.items() if aligned != asks(code)} == set()
    assert before_page_fault == [code for code, aligned in wanted.items() if aligned], "#GP comes before #PF"


def asks(code: bytes) -> bool:
    instruction = decode(code)
    return instruction is not None and wants_alignment(instruction)


@pytest.mark.thorough(one_in=8)
@pytest.mark.parametrize("part", range(8))
def test_each_instruction_with_a_misaligned_operand_is_gp(part):
    codes = [code for code in memory_forms() if asks(code)][part::8]
    hosts = host_float.ask([Request(code, offset=offset) for code in codes for offset in (16, 17)])
    ours = emulated_float.ask([Request(code, offset=offset) for code in codes for offset in (16, 17)])
    for index, code in enumerate(codes):
        host, our = (tuple(answer.signal for answer in found[2 * index : 2 * index + 2]) for found in (hosts, ours))
        assert our == host or SIGILL in host or our[0] == SIGILL, code.hex()


def number(made: random.Random, double: bool) -> bytes:
    size, chosen = (8, DOUBLE) if double else (4, SINGLE)
    return (made.choice(chosen) if made.random() < 0.7 else made.getrandbits(8 * size)).to_bytes(size, "little")


def arithmetic() -> Iterator[tuple[bytes, bool]]:
    """Instructions that may raise exceptions, XMM0 and XMM1 (or EAX) their operands; whether on doubles."""
    for prefix, double in (("", False), ("66", True), ("f3", False), ("f2", True)):
        opcodes = ["51", "58", "59", "5c", "5d", "5e", "5f", "5a"] + ([] if double else ["52", "53"])
        yield from ((bytes.fromhex(f"{prefix}0f{opcode}c1"), double) for opcode in opcodes)
        yield from ((bytes.fromhex(f"{prefix}0fc2c1{kind:02x}"), double) for kind in range(8))
        yield from ((bytes.fromhex(f"{prefix}0f{opcode}c1"), double) for opcode in ("2c", "2d"))
        if prefix in ("", "66"):
            yield from ((bytes.fromhex(f"{prefix}0f{opcode}c1"), double) for opcode in ("2e", "2f"))
        else:
            yield bytes.fromhex(f"{prefix}0f2ac0"), double
    for code in ("0f5bc1", "660f5bc1", "f30f5bc1", "f20f7cc1", "f20f7dc1", "f20fd0c1"):
        yield bytes.fromhex(code), False
    for code in ("660fe6c1", "f20fe6c1", "660f7cc1", "660f7dc1", "660fd0c1"):
        yield bytes.fromhex(code), True
    for opcode in range(8, 12):
        yield from ((bytes.fromhex(f"660f3a{opcode:02x}c1{how:02x}"), bool(opcode & 1)) for how in (0, 1, 4, 9, 0xC))


ROUND_QUIETLY = (9, 0xC)


def arithmetic_requests(seed: int, count: int, masks: int) -> list[Request]:
    made = random.Random(seed)
    operations = list(arithmetic())
    requests = []
    for _ in range(count):
        code, double = made.choice(operations)
        area = fresh()
        area.xmm[:] = b"".join(number(made, double) for _ in range(16 if double else 32))
        area.mxcsr = masks | made.choice((0, 0, 0x2000, 0x4000, 0x6000)) | made.choice((0, 0, 0, 0x01, 0x24, 0x3D))
        requests.append(Request(code, area=area, eax=made.getrandbits(32)))
    return requests


def denormal_or_signalling(request: Request) -> bool:
    """Whether one of the numbers is denormal (DE is never raised), or a signalling NaN (which quiet rounding hides)."""
    for size, exponent, mantissa in ((4, 0xFF << 23, (1 << 23) - 1), (8, 0x7FF << 52, (1 << 52) - 1)):
        for at in range(0, 32, size):
            value = int.from_bytes(bytes(request.area.xmm)[at : at + size], "little")
            if value & mantissa and not value & exponent:
                return True
    return request.code[:3] == b"\x66\x0f\x3a"


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("seed", range(8))
def test_masked_exceptions_are_flagged_in_mxcsr_as_by_the_hosts_cpu(seed):
    requests = arithmetic_requests(seed, 200, 0x1F80)
    for request, host, our in zip(requests, host_float.ask(requests), emulated_float.ask(requests), strict=True):
        ignored = DENORMAL | (1 if request.code[-1] in ROUND_QUIETLY and request.code[2] == 0x3A else 0)
        assert our.area.mxcsr & ~ignored == host.area.mxcsr & ~ignored, (request.code.hex(), bytes(request.area.xmm))
        assert our.signal == host.signal == 0


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("seed", range(8))
def test_exceptions_that_are_not_masked_are_xm_where_the_hosts_cpu_raises_one(seed):
    made = random.Random(seed)
    masks = (0x1F00, 0x1D80, 0x1B80, 0x1780, 0xF80)  # one exception that is not
    requests = [
        request for request in arithmetic_requests(seed, 250, made.choice(masks)) if not denormal_or_signalling(request)
    ]
    hosts, ours = host_float.ask(requests), emulated_float.ask(requests)
    assert any(answer.signal == SIGFPE for answer in hosts)
    for request, host, our in zip(requests, hosts, ours, strict=True):
        what = request.code.hex(), hex(request.area.mxcsr), bytes(request.area.xmm)[:32].hex()
        assert our.signal == host.signal, what
        if not host.signal or not host.area.mxcsr & 0x18:  # with OE and UE a CPU says otherwise whether it has rounded
            assert (our.area.mxcsr ^ host.area.mxcsr) & ~DENORMAL == 0, what
        if host.signal:
            assert bytes(our.area.xmm) == bytes(request.area.xmm), "the destination is as it was"


def strings(seed: int, count: int) -> list[Request]:
    made = random.Random(seed)

    def text() -> bytes:
        return bytes(made.choice(b"ab\0" if made.random() < 0.15 else b"ab") for _ in range(16))

    requests = []
    for index in range(count):
        area = fresh()
        needle = text()[: made.choice((1, 2, 3, 4, 8, 16))].ljust(16, made.choice((b"\0", b"\0", b"a")))
        area.xmm[:] = needle + text() + made.randbytes(96)
        control = made.getrandbits(8) | (0x0C if index % 4 else 0)
        code = bytes([0x66, 0x0F, 0x3A, made.choice(range(0x60, 0x64)), made.choice((0x01, 0xC1, 0xC1)), control])
        lengths = [made.choice((0, 1, 2, 3, 8, 9, 16, 17, 0xFFFFFFFD, 0x7FFFFFFF, 0x80000000)) for _ in range(2)]
        requests.append(Request(code, area, text() * 2, made.randrange(16), *lengths))
    return requests


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("seed", range(8))
def test_string_comparisons_find_what_the_hosts_cpu_finds(seed):
    """Also with lengths of 80000000h, which made the engine read all of the host's memory."""
    requests = strings(seed, 200)
    for request, host, our in zip(requests, host_float.ask(requests), emulated_float.ask(requests), strict=True):
        what = request.code.hex(), bytes(request.area.xmm)[:32], hex(request.eax), hex(request.edx)
        assert (our.signal, our.eax, our.edx) == (0, request.eax, request.edx), what
        assert bytes(our.area.xmm) == bytes(host.area.xmm), what
        assert (our.eflags ^ host.eflags) & 0x8D5 == 0, what
        if request.code[3] & 1:
            assert our.ecx == host.ecx, what


@pytest.mark.parametrize("lengths", [(0x80000000, 5), (5, 0x80000000), (0x80000000, 0x80000000)])
def test_a_comparison_of_80000000h_characters_does_not_end_the_host(lengths):
    """Magnitudes without a sign bit: 16, whatever is compared and how."""
    area = fresh()
    area.xmm[:32] = b"abcabcabcabcabca" * 2
    codes = [bytes([0x66, 0x0F, 0x3A, opcode, 0xC1, how]) for opcode in (0x60, 0x61) for how in range(0, 0x80, 5)]
    requests = [Request(code, area, b"", 0, *lengths) for code in codes]
    for host, our in zip(host_float.ask(requests), emulated_float.ask(requests), strict=True):
        assert (our.signal, our.eax, our.edx) == (0, *lengths)
        assert (bytes(our.area.xmm), our.eflags & 0x8D5) == (bytes(host.area.xmm), host.eflags & 0x8D5)


def test_host_code_and_python_agree_about_sse():
    requests = [*strings(11, 40), *arithmetic_requests(11, 40, 0x1F80), *arithmetic_requests(12, 40, 0x1D00)]
    requests += [Request(code, offset=offset) for code in (b"\x0f\x28\x01", b"\x66\x0f\xef\x01") for offset in (0, 8)]
    native, python = emulated_float.ask(requests), emulated_float.ask(requests, "python")
    assert [bytes(answer.area) for answer in native] == [bytes(answer.area) for answer in python]
    assert [answer.signal for answer in native] == [answer.signal for answer in python]


def fields(machine: Machine) -> tuple[object, ...]:
    cpu = machine.cpu
    return machine.fpu, cpu.eax, cpu.ecx, cpu.edx, cpu.eflags, cpu.eip, machine.clock.retired


ALL = """
    mov dword ptr [0x3000], 0x1f00; mov dword ptr [0x3004], 0x1f80; ldmxcsr [0x3004]
    mov ecx, 2; cvtsi2ss xmm0, ecx; mov ecx, 3; cvtsi2ss xmm1, ecx; rcpss xmm2, xmm1
    stmxcsr [0x3008]; divss xmm0, xmm1; stmxcsr [0x300c]; ldmxcsr [0x3000]; divss xmm0, xmm1; addps xmm3, xmm3
    mov eax, 0x80000000; mov edx, 16; mov dword ptr [0x3013], 0x61616161; pcmpestri xmm0, xmmword ptr [0x3011], 0x4c
    stmxcsr [0x3020]; roundss xmm4, xmm1, 9; hlt
"""


def test_a_run_with_sse_is_the_same_wherever_it_is_cut_or_restored(bare):
    machine = bare(ALL)
    machine.cpu.cr4 = 0x600
    start = machine.snapshot()
    assert machine.run().reason == "halt"
    whole = fields(machine)
    assert [machine.ram.u32(at) for at in (0x3008, 0x300C)] == [0x1F80, 0x1FA0], "RCPSS flags nothing, DIVSS PE"
    machine.restore(start)
    while machine.run(fuel=1).reason == "fuel":
        machine.restore(machine.snapshot())
    assert fields(machine) == whole


def test_code_in_the_kernels_gigabyte_saves_and_loads_sse_flags_too(board):
    """Its FXSAVE and FXRSTOR carry them from one thread to another, and no further."""
    area, clean = 0xC0302000, 0xC0302200
    third = "mov eax, 1; cvtsi2ss xmm0, eax; mov eax, 3; cvtsi2ss xmm1, eax; divss xmm0, xmm1"
    load = "mov dword ptr [0xc0302400], 0x1f80; ldmxcsr [0xc0302400]; fninit"
    board.boot(f"mov eax, 0x600; or eax, 0x20; mov cr4, eax; {load}; fxsave [{clean}]; {third}; fxsave [{area}];"
               f"fxrstor [{clean}]; stmxcsr [0xc0302400]; fxrstor [{area}]; stmxcsr [0xc0302404]; hlt")  # fmt: skip
    board.machine.run(fuel=10_000)
    ram = board.machine.ram
    assert (ram.u32(0x302018), ram.u32(0x302400), ram.u32(0x302404)) == (0x1FA0, 0x1F80, 0x1FA0)


RING_3 = {  # instructions, the exception, and where it is
    "movaps xmm0, [0x402001]": (13, 0),
    "nop; movntps [0x402008], xmm0": (13, 1),
    "mov ecx, 0x402008; addps xmm0, [ecx]": (13, 5),
    "mov ecx, 0x402008; mov edx, 2; addps xmm0, [ecx + edx * 4]": (0x80, None),
    "mov ecx, 0x402008; mov edx, 2; addps xmm0, [ecx + edx * 4 + 1]": (13, 10),
    "movaps xmm0, [0x5f0001]": (13, 0),  # nothing is mapped there: #GP comes first
    "movaps xmm0, [0x5f0000]": (14, 0),
    "movaps xmm0, [0xc0300008]": (13, 0),  # the kernel's
    "movups xmm0, [0x402001]": (0x80, None),
    "paddb mm0, [0x402001]": (0x80, None),
    "push eax; movaps [esp + 8], xmm0": (13, 1),  # by SS
    "fxsave [0x402008]": (13, 0),
}


@pytest.mark.parametrize("source", RING_3)
def test_a_misaligned_operand_of_ring_3_is_gp_at_its_instruction(board, source):
    vector, offset = RING_3[source]
    report = in_ring_3(board, f"{source}; int 0x80")
    assert report.vector == vector
    if offset is not None:
        assert report.eip == 0x400000 + offset
    if vector == 13:
        assert (report.error, board.machine.fpu.xmm[0]) == (0, 0)


def in_ring_3(board, source, control=0x22, features=0x600, answer=None):
    """Run code in ring 3 to its first exception, or until `answer` stops it; return the last report."""
    board.answer = answer or (lambda _: board.machine.request_stop("host"))
    board.boot("", user=source)
    cpu = board.machine.cpu
    cpu.cr0, cpu.cr4 = cpu.cr0 & ~0x2E | control, features | 0x20
    board.machine.run(fuel=100_000)
    return board.reports[-1]


@pytest.mark.parametrize(("control", "features", "vector"), [(0x2A, 0x600, 7), (0x22, 0, 6), (0x26, 0x600, 6)])
def test_the_fault_of_a_forbidden_instruction_comes_before_that_of_its_alignment(board, control, features, vector):
    """CR0.TS, CR4.OSFXSR and CR0.EM, once the instruction has been executed and is looked at."""
    cpu = board.machine.cpu

    def answer(report):
        if report.vector != 0x80:
            board.machine.request_stop("host")
        cpu.cr0, cpu.cr4, cpu.ecx = cpu.cr0 & ~0x2E | control, features | 0x20, 0x402001

    assert in_ring_3(board, "mov ecx, 0x402000; l: movaps xmm0, [ecx]; int 0x80; jmp l", answer=answer).vector == vector
    assert 0x400005 in board.machine.filters.watched


def test_a_segments_base_is_part_of_what_has_to_be_aligned(board):
    shifted = struct.pack("<HHBBBB", 0xFFFF, 8, 0, 0xF2, 0xCF, 0)  # base 8, ring 3
    for at, vector in ((0x402008, 0x80), (0x402000, 13)):
        board.reports.clear()
        board.machine.ram.write(0x205000 + 0x30, shifted)
        code = f"mov eax, 0x33; .byte 0x8e, 0xe0; movaps xmm0, fs:[{at}]; int 0x80"
        assert in_ring_3(board, code).vector == vector
        board.machine.translations.flush_code()


def test_a_16_bit_address_is_checked_after_it_has_wrapped(bare):
    """BX is FFF8h and the displacement 18h: 10h, whatever EBX has above BX."""
    machine = bare("mov ebx, 0x1fff8; nop; nop; nop; nop; nop; hlt")
    machine.cpu.cr4 = 0x600
    machine.ram.write(0x1005, b"\x67\x0f\x28\x47\x18")  # movaps xmm0, [bx + 18h]
    assert machine.run().reason == "halt"
    machine.cpu.eip = 0x1000
    machine.ram.write(0x1001, struct.pack("<I", 0x1FFF9))
    machine.code_changed(0x1000, 16)
    assert machine.run().detail.chain[0].startswith("#GP")


def test_sse_instructions_that_replace_each_other_in_memory_are_all_checked(bare):
    """Host code distinguishes a few of them; beyond that Python checks."""
    machine = bare("mov ecx, 0x3000; nop; nop; nop; nop; nop; nop; nop; hlt")
    machine.cpu.cr4 = 0x600
    for displacement in (*range(0x30), 8, 0):
        code = b"\x0f\x28\x81" + struct.pack("<I", displacement)  # movaps xmm0, [ecx + displacement]
        machine.ram.write(0x1005, code)
        machine.code_changed(0x1000, 16)
        machine.cpu.eip = 0x1000
        assert (machine.run().reason == "halt") == (displacement % 16 == 0), displacement
    assert machine.filters.watched[0x1005].forms == [LOOK]
    assert len(machine.counter.sites.cells[0x1005]) <= FORMS


@pytest.mark.parametrize("address", ["", "[0x402000]"])
def test_single_stepping_shows_the_right_result_after_each_sse_instruction(board, address):
    """The #DB of a single step comes before the run loop has seen the instruction."""
    operand = f"xmmword ptr {address}" if address else "xmm1"
    code = f"pxor xmm0, xmm0; pxor xmm1, xmm1; push 0x302; popfd; pcmpistri xmm0, {operand}, 0x4c; nop; int 0x80"
    seen = []
    board.answer = lambda report: seen.append((report.vector, report.eip, report.eflags & 0x8D5, board.machine.cpu.ecx))
    board.boot("", user=code)
    board.machine.cpu.cr0, board.machine.cpu.cr4 = 0x23, 0x620
    board.machine.run(fuel=400)
    steps = [values for vector, *values in seen if vector == 1]
    assert [flags for _, flags, _ in steps][:1] == [0x8C1], "CF, ZF, SF and OF: an empty needle is everywhere"
    assert steps[0][2] == 15
    assert all(after > before for (before, *_), (after, *_) in pairwise(steps))


def test_an_unmasked_exception_under_tf_is_xm_and_not_a_debug_trap(board):
    code = "mov dword ptr [0x402000], 0x1d80; ldmxcsr [0x402000]; mov eax, 1; cvtsi2ss xmm0, eax; xorps xmm1, xmm1;"
    report = in_ring_3(board, code + "push 0x302; popfd; divss xmm0, xmm1; int 0x80")
    assert (report.vector, report.eflags & 0x100) == (19, 0x100)
    assert board.machine.fpu.mxcsr == 0x1D84
    assert board.machine.fpu.xmm[0] == 0x3F800000


def test_an_unmasked_exception_in_a_block_that_runs_into_an_unmapped_page_has_no_tf_in_its_image(board):
    """Such a block is executed in single steps, which must not be visible."""
    board.map(0x401000, 0, "none")
    code = "mov dword ptr [0x402000], 0x1d80; ldmxcsr [0x402000]; mov eax, 1; cvtsi2ss xmm0, eax; xorps xmm1, xmm1;"
    board.machine.ram.write(0x300FFA, bytes.fromhex("90 90 f3 0f 5e c1"))  # divss xmm0, xmm1
    report = in_ring_3(board, code + "mov ecx, 0x400ffa; jmp ecx")
    assert (report.vector, report.eip, report.eflags & 0x100) == (19, 0x400FFC, 0)
    assert not board.machine.traps.stepping.active


def test_an_unmasked_exception_is_ud_without_osxmmexcpt(board):
    code = "mov dword ptr [0x402000], 0x1d80; ldmxcsr [0x402000]; mov eax, 1; cvtsi2ss xmm0, eax; xorps xmm1, xmm1;"
    assert in_ring_3(board, code + "divss xmm0, xmm1; int 0x80", features=0x200).vector == 6


def test_a_comparison_whose_operand_is_not_mapped_faults_with_its_registers_as_they_were(board):
    report = in_ring_3(board, "mov eax, 0x80000000; mov edx, eax; pcmpestri xmm0, xmmword ptr [0x5f0000], 0x0c; hlt")
    assert (report.vector, report.cr2) == (14, 0x5F0000)
    assert board.machine.cpu.edx == 0x80000000


def test_code_without_sse_has_no_probe_sites(bare):
    machine = bare("mov ebx, 0xdb31; xor ebx, ebx; movzx eax, bl; setz al; cmovz eax, ebx; bswap eax; shl eax, 3; hlt")
    machine.run()
    assert not machine.filters.watched
    assert looks(decode(b"\x0f\xb6\xc3")) == 0
