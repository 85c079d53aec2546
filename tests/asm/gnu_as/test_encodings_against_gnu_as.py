"""Thousands of instruction forms, byte for byte against GNU as."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from callgate.asm.assembler import AsmErrors, assemble_text

GnuAs = Callable[[Sequence[str]], list[bytes | str]]
Slot = Callable[[bytes], bytes]

ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
SHIFTS = ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar", "sal")
CONDITIONS = "o no b c nae ae nb nc e z ne nz be na a nbe s ns p pe np po l nge ge nl le ng g nle".split()
REGISTERS = {
    8: ("al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"),
    16: ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di"),
    32: ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"),
}
SIZES = {8: "byte", 16: "word", 32: "dword"}
NUMBERS = {8: (0, 1, 127, 128, 255, -1, -128), 16: (0, 1, 127, 128, 255, 0x1234, 0xFFFF, -1, -129),
           32: (0, 1, 127, 128, 255, 0x12345678, 0xFFFFFFFF, -1, -128, -129, 0x80000000)}  # fmt: skip
BASES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
DISPLACEMENTS = ("", " + 1", " + 127", " + 128", " - 128", " - 129", " + 0x12345678")


def addresses() -> Iterator[str]:
    """Every shape of ModRM and SIB."""
    for base in BASES:
        for displacement in DISPLACEMENTS:
            yield f"[{base}{displacement}]"
    for base in BASES:
        for index in BASES:
            if index != "esp":
                yield f"[{base} + {index}*4 + 16]"
    for scale in (1, 2, 4, 8):
        yield f"[ebp + esi*{scale}]"
        yield f"[ebx + edi*{scale} - 0x1000]"
        if scale > 1:
            yield f"[ecx*{scale}]"
            yield f"[edx*{scale} + 0x400000]"
    yield "[0x1234]"
    yield "[0xc0100000]"


SOME = ("[ebx]", "[ebp]", "[esp]", "[esi + 8]", "[eax + ecx*4]", "[edi - 0x200]", "[0x400000]", "[ebp + edx*2 + 1]")


def arithmetic() -> Iterator[str]:
    for name in ALU:
        for bits, registers in REGISTERS.items():
            size = SIZES[bits]
            yield from (f"{name} {registers[0]}, {other}" for other in registers)
            yield from (f"{name} {other}, {registers[3]}" for other in registers)
            for number in NUMBERS[bits]:
                yield f"{name} {registers[0]}, {number}"
                yield f"{name} {registers[1]}, {number}"
                yield f"{name} {size} ptr [ebx], {number}"
            for address in SOME:
                yield f"{name} {registers[2]}, {size} ptr {address}"
                yield f"{name} {size} ptr {address}, {registers[6]}"


def moves() -> Iterator[str]:
    for address in addresses():
        yield f"mov ecx, dword ptr {address}"
        yield f"mov eax, {address}"
        yield f"mov {address}, al"
        yield f"lea esi, {address}"
        yield f"mov word ptr {address}, 7"
    for bits, registers in REGISTERS.items():
        for register in registers:
            yield f"mov {register}, {registers[5]}"
            yield from (f"mov {register}, {number}" for number in NUMBERS[bits])
            yield f"mov {SIZES[bits]} ptr [esp + 4], {register}"
            yield f"xchg {register}, {registers[1]}"
            yield f"xchg {registers[0]}, {register}"
            yield f"xchg {SIZES[bits]} ptr [ebx], {register}"
            yield f"xchg {register}, {SIZES[bits]} ptr [ebx]"
            yield f"test {register}, {registers[4]}"
            yield f"test {SIZES[bits]} ptr [esi], {register}"
            yield f"test {register}, {SIZES[bits]} ptr [esi]"
            yield f"test {register}, 1"
        yield from (f"test {SIZES[bits]} ptr [edi], {number}" for number in NUMBERS[bits])
    for target, source in ((32, 16), (32, 8), (16, 8)):
        for name in ("movzx", "movsx"):
            for register in REGISTERS[target]:
                yield f"{name} {register}, {REGISTERS[source][2]}"
                yield f"{name} {register}, {SIZES[source]} ptr [ebp + 8]"
    for register in REGISTERS[32]:
        yield f"bswap {register}"
        yield f"push {register}"
        yield f"pop {register}"


def one_operand() -> Iterator[str]:
    for name in ("inc", "dec", "neg", "not", "mul", "imul", "div", "idiv"):
        for bits, registers in REGISTERS.items():
            yield from (f"{name} {register}" for register in registers)
            yield from (f"{name} {SIZES[bits]} ptr {address}" for address in SOME)
    for address in SOME:
        yield f"push dword ptr {address}"
        yield f"pop dword ptr {address}"
        yield f"call dword ptr {address}"
        yield f"jmp dword ptr {address}"
    for register in REGISTERS[32]:
        yield f"call {register}"
        yield f"jmp {register}"
    for number in (0, 1, 127, 128, -1, -128, -129, 0x12345678, 0xFFFFFFFF):
        yield f"push {number}"
    for register in ("ecx", "si"):
        for source in ("edx" if register == "ecx" else "dx", f"{SIZES[32 if register == 'ecx' else 16]} ptr [ebx]"):
            yield f"imul {register}, {source}"
            for number in (1, 127, 128, -1, 0x1234):
                yield f"imul {register}, {source}, {number}"
    yield "imul ecx, ecx, 5"


def shifts() -> Iterator[str]:
    for name in SHIFTS:
        for bits, registers in REGISTERS.items():
            for register in registers:
                yield f"{name} {register}, 1"
                yield f"{name} {register}, 5"
                yield f"{name} {register}, cl"
            for address in SOME:
                yield f"{name} {SIZES[bits]} ptr {address}, 1"
                yield f"{name} {SIZES[bits]} ptr {address}, 31"
                yield f"{name} {SIZES[bits]} ptr {address}, cl"
    for name in ("shld", "shrd"):
        for bits in (16, 32):
            first, second = REGISTERS[bits][:2]
            for target in (first, f"{SIZES[bits]} ptr [esi + 4]"):
                yield f"{name} {target}, {second}, 3"
                yield f"{name} {target}, {second}, cl"


def bits_and_locks() -> Iterator[str]:
    for name in ("bt", "bts", "btr", "btc"):
        for bits in (16, 32):
            first, second = REGISTERS[bits][2:4]
            yield f"{name} {first}, {second}"
            yield f"{name} {first}, 7"
            for address in SOME:
                yield f"{name} {SIZES[bits]} ptr {address}, {second}"
                yield f"{name} {SIZES[bits]} ptr {address}, 31"
                if name != "bt":
                    yield f"lock {name} {SIZES[bits]} ptr {address}, {second}"
                    yield f"lock {name} {SIZES[bits]} ptr fs:{address}, 5"
    for name in ("bsf", "bsr", "popcnt"):
        yield from (f"{name} {bits[0]}, {bits[7]}" for bits in (REGISTERS[16], REGISTERS[32]))
        yield from (f"{name} eax, dword ptr {address}" for address in SOME)
    for name in ("add", "or", "adc", "sbb", "and", "sub", "xor", "xadd", "cmpxchg", "xchg"):
        for bits in (8, 16, 32):
            yield f"lock {name} {SIZES[bits]} ptr gs:[ecx + 4], {REGISTERS[bits][2]}"
            yield f"{name} {SIZES[bits]} ptr [ecx + 4], {REGISTERS[bits][2]}"
    for name in ("inc", "dec", "neg", "not"):
        yield from (f"lock {name} {size} ptr [eax]" for size in SIZES.values())
    yield "cmpxchg8b qword ptr [edi]"
    yield "lock cmpxchg8b qword ptr fs:[edi]"


def conditions() -> Iterator[str]:
    for condition in CONDITIONS:
        yield f"set{condition} cl"
        yield f"set{condition} byte ptr [edx + 1]"
        yield f"cmov{condition} eax, ecx"
        yield f"cmov{condition} si, word ptr [edx]"
        yield f"cmov{condition} edi, dword ptr [edx]"


def segments() -> Iterator[str]:
    for segment in ("es", "cs", "ss", "ds", "fs", "gs"):
        yield f"push {segment}"
        if segment != "cs":
            yield f"pop {segment}"
            yield f"mov {segment}, ax"
            yield f"mov {segment}, ecx"
            yield f"mov {segment}, word ptr [ebx + 2]"
        yield f"mov ax, {segment}"
        yield f"mov esi, {segment}"
        yield f"mov word ptr [ebx + 2], {segment}"
        for address in (*SOME, "[ebp + 4]", "[esp + 4]"):
            yield f"mov edx, {segment}:{address}"
            yield f"mov {segment}:{address}, cx"
            yield f"inc byte ptr {segment}:{address}"
        yield f"mov eax, {segment}:[0x18]"
        yield f"mov al, {segment}:[0x18]"
    for name in ("lds", "les", "lfs", "lgs", "lss"):
        yield f"{name} ecx, [ebx]"
    yield from ("lar eax, ecx", "lsl eax, ecx", "lar ax, cx", "arpl ax, cx", "arpl word ptr [eax], cx")


def strings() -> Iterator[str]:
    for stem in ("movs", "cmps", "stos", "lods", "scas", "ins", "outs"):
        for suffix in "bwd":
            yield stem + suffix
            yield f"rep {stem}{suffix}"
    for stem in ("cmps", "scas"):
        for suffix in "bwd":
            yield from (f"{repeat} {stem}{suffix}" for repeat in ("repe", "repz", "repne", "repnz"))
    for size in SIZES.values():
        yield f"movs {size} ptr es:[edi], {size} ptr fs:[esi]"
        yield f"rep movs {size} ptr es:[edi], {size} ptr [esi]"
        yield f"cmps {size} ptr gs:[esi], {size} ptr es:[edi]"
    yield from ("lods al, byte ptr fs:[esi]", "rep outs dx, word ptr cs:[esi]", "stos dword ptr es:[edi], eax")


def system() -> Iterator[str]:
    for address in SOME:
        yield from (f"{name} {address}" for name in ("lgdt", "lidt", "sgdt", "sidt", "invlpg"))
        yield from (
            f"{name} word ptr {address}" for name in ("lldt", "ltr", "sldt", "str", "lmsw", "smsw", "verr", "verw")
        )
    for name in ("lldt", "ltr", "lmsw", "verr", "verw", "sldt", "str", "smsw"):
        yield f"{name} ax"
        yield f"{name} si"
    yield from ("sldt eax", "str ecx", "smsw edx", "lgdt fs:[eax]", "lidt cs:[0x1000]")
    for number in (0, 2, 3, 4):
        yield f"mov cr{number}, eax"
        yield f"mov ebx, cr{number}"
    for number in (0, 1, 2, 3, 6, 7):
        yield f"mov dr{number}, esi"
        yield f"mov ecx, dr{number}"
    for number in (0, 3, 0x20, 0x80, 0xFF):
        yield f"int {number}"
    for name in ("al", "ax", "eax"):
        yield from (f"in {name}, dx", f"out dx, {name}", f"in {name}, 0x60", f"out 0xe0, {name}")
    yield from (
        "int3 int1 into iretd iret ret retf hlt cli sti cld std clc stc cmc lahf sahf pushfd popfd pushf popf pusha "
        "pushad popa popad nop pause cbw cwde cwd cdq leave xlatb cpuid rdtsc rdmsr wrmsr rdpmc wbinvd invd clts "
        "sysenter sysexit ud2 rsm mfence lfence sfence aaa aas daa das aam aad endbr32 emms xgetbv xsetbv fwait "
        "iretw pushfw popfw pushaw popaw"
    ).split()
    yield from ("ret 4", "ret 0xffff", "retf 8", "enter 16, 0", "enter 0x1234, 3", "aam 16", "aad 16")
    yield from ("bound eax, [ebx]", "nop dword ptr [eax]", "nop word ptr [eax + 4]", "nop eax", "nop ax")
    yield from ("prefetchnta [eax]", "prefetcht0 [eax + 4]", "clflush [ebx]", "fxsave [esi]", "fxrstor [esi]")


def far_branches() -> Iterator[str]:
    yield from ("jmp 0x1b:0x400000", "call 0x23:0x12345678", "jmp 8:0xc0100000")
    for address in SOME:
        yield f"jmp fword ptr {address}"
        yield f"call fword ptr {address}"


def peculiar() -> Iterator[str]:
    yield from DIFFERENT


def floating() -> Iterator[str]:
    for name in ("fadd", "fsub", "fsubr", "fmul", "fdiv", "fdivr", "fcom", "fcomp", "fld", "fst", "fstp"):
        yield f"{name} dword ptr [eax]"
        yield f"{name} qword ptr [eax + 8]"
        yield f"{name} st(1)"
    for name in ("fild", "fist", "fistp", "fiadd", "fimul"):
        yield f"{name} word ptr [ebx]"
        yield f"{name} dword ptr [ebx]"
    yield from ("fld tbyte ptr [ecx]", "fstp tbyte ptr [ecx]", "fild qword ptr [ecx]", "fistp qword ptr [ecx]")
    yield from ("fadd st(0), st(3)", "fadd st(3), st(0)", "faddp st(1), st(0)", "fxch st(2)", "fcomi st(0), st(1)")
    yield from ("fnstcw [eax]", "fldcw [eax]", "fnstsw ax", "fnstsw [eax]", "fninit", "fld1", "fldz", "fchs", "fabs")
    yield from (
        "fsqrt",
        "fsin",
        "fnclex",
        "fnstenv [eax]",
        "fldenv [eax]",
        "fnsave [eax]",
        "frstor [eax]",
        "ffree st(3)",
    )


def vectors() -> Iterator[str]:
    packed = (
        "addps subps mulps divps andps orps xorps movaps movups paddb paddd psubw pand por pxor pcmpeqb punpcklbw addpd"
    )
    for name in packed.split():
        yield f"{name} xmm1, xmm2"
        yield f"{name} xmm0, xmmword ptr [eax + 16]"
    for name in ("addss", "mulsd", "sqrtss", "cvtss2sd", "movss", "ucomisd"):
        yield f"{name} xmm3, xmm4"
    yield from (
        "movss xmm0, dword ptr [eax]",
        "movsd xmm0, qword ptr [eax]",
        "movsd qword ptr [eax], xmm0",
        "movsd xmm1, xmm2",
    )
    yield from (
        "movd xmm0, eax",
        "movd ecx, xmm1",
        "movq xmm0, qword ptr [eax]",
        "movdqa xmm5, xmm6",
        "movdqu [edi], xmm7",
    )
    yield from (
        "pshufd xmm0, xmm1, 0x1b",
        "shufps xmm0, xmm1, 0xe4",
        "psrldq xmm0, 4",
        "cvtsi2sd xmm0, ecx",
        "paddb mm0, mm1",
    )
    yield from (
        "movaps xmm0, fs:[eax]",
        "ldmxcsr [eax]",
        "stmxcsr [ebx + 4]",
        "movnti [eax], ecx",
        "crc32 eax, cl",
        "movbe eax, [ecx]",
    )
    yield from ("cmpsd xmm0, xmm1, 2", "movq mm1, qword ptr [eax]", "pmovmskb eax, xmm0", "movmskps ecx, xmm3")


FAMILIES = (
    arithmetic, moves, one_operand, shifts, bits_and_locks, conditions, segments, strings, system, far_branches,
    floating, vectors, peculiar,
)  # fmt: skip

# Forms that legitimately differ, with the reason; both encodings mean the same.
DIFFERENT: dict[str, str] = {
    "mov eax, [ecx*1]": "a factor of 1 is dropped, as NASM does: no SIB byte, no displacement",
}


def encode_all(lines: Sequence[str]) -> list[bytes | str]:
    """Assemble lines; those that fail alone are reported as text."""
    try:
        program = assemble_text("\n".join(lines))
    except AsmErrors:
        return [encode_one(line) for line in lines]
    return [program.code_at(line.address, line.size) for line in program.lines]


def encode_one(line: str) -> bytes | str:
    try:
        program = assemble_text(line)
    except AsmErrors as errors:
        return str(errors)
    return program.sections[0].data


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_form_is_encoded_as_gnu_as_does(family: Callable[[], Iterator[str]], gnu_as: GnuAs, slot: Slot) -> None:
    lines = list(dict.fromkeys(family()))
    wanted = gnu_as(lines)
    ours = encode_all(lines)
    problems = []
    for line, theirs, code in zip(lines, wanted, ours, strict=True):
        if isinstance(theirs, str):
            problems.append(f"{line}: GNU as refuses it: {theirs}")
        elif isinstance(code, str):
            problems.append(f"{line}: {code}")
        elif slot(code) != theirs and line not in DIFFERENT:
            shown = theirs.rstrip(b"\xcc").hex(" ")
            problems.append(f"{line}: {code.hex(' ')}, GNU as has {shown}")
    assert not problems, f"{len(problems)} of {len(lines)} forms:\n" + "\n".join(problems[:40])


def test_there_are_thousands_of_forms() -> None:
    assert sum(len(set(family())) for family in FAMILIES) > 4000
