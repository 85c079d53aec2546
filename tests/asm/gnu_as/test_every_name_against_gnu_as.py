"""Every name of an instruction that GNU as or the assembler knows, with every kind of operands, in both.

The list of names is GNU as's own: it is read out of the program, and tried.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import host_programs
import pytest
from callgate.asm.assembler.encoding import encode
from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import BRANCHES, MNEMONICS
from callgate.asm.assembler.language.operands import Operand, parse_operand

PLACE = Place("t", 1)
NAME = re.compile(rb"[a-z][a-z0-9]{1,20}(?=\0)")
MESSAGE = re.compile(r"^\S+:(\d+): Error: (.*)$", re.MULTILINE)
SLOT = 16
FILLER = b"\xcc"
# Nehalem has SSE4.2 and nothing later; instructions of the assembler that it lacks are added.
CPU = "-march=corei7+movbe+xsave+prfchw"
LEFT_OUT = {
    "64-bit code": "cdqe cltq cqo cqto movabs movsxdq rex swapgs syscall sysret",
    "names of AT&T": "cbtw cltd cwtd cwtl movsbl fildll fistpll fisttpll",
    "VMX and SMX": "vmcall vmclear vmlaunch vmptrld vmptrst vmread vmresume vmwrite vmxoff vmxon",
}
# Prefixes alone on a line, and names that no manual has.
OTHER_SPELLINGS = frozenset(
    "addr16 addr32 adword aword data16 data32 dword word cs ds es fs gs ss hnt ht lock rep repe repne repnz repz clr "
    "fldt fstpt ind lesd movzb movzw prefetch slod smov scmp ssca ssto stcw".split()
)
REGISTERS = ("al", "cl", "ax", "cx", "dx", "eax", "ecx", "edx", "es", "cr0", "dr7", "mm0", "mm1", "xmm0", "xmm1",
             "st", "st(1)")  # fmt: skip
MEMORY = tuple(f"{size}[ebx]" for size in ("", *(f"{word} ptr " for word in
               ("byte", "word", "dword", "fword", "qword", "tbyte", "xmmword"))))  # fmt: skip
ALL = (*REGISTERS, "1", *MEMORY)
SOME = ("eax", "ecx", "ax", "cx", "xmm0", "xmm1", "mm0", "mm1", "cl", "al", "st", "st(1)", "[ebx]", "dword ptr [ebx]",
        "word ptr [ebx]", "byte ptr [ebx]", "qword ptr [ebx]", "xmmword ptr [ebx]")  # fmt: skip


def shapes() -> Iterator[tuple[str, ...]]:
    """Every kind of operands: none to three."""
    yield ()
    yield from ((one,) for one in ALL)
    yield from (pair for pair in product(ALL, repeat=2) if sum("[" in operand for operand in pair) < 2)
    for first, second in product(SOME, repeat=2):
        if not ("[" in first and "[" in second):
            yield from ((first, second, third) for third in ("1", "cl", "xmm0"))


class GnuAs:
    """GNU as for one CPU, a slot for each line."""

    def __init__(self, folder: Path) -> None:
        self.source, self.image, self.binary = folder / "lines.s", folder / "lines.o", folder / "lines.bin"

    def run(self, lines: Sequence[str]) -> str:
        self.source.write_text(".intel_syntax noprefix\n" + "\n".join(lines) + "\n")
        options = ("--32", "-msyntax=intel", "-mnaked-reg", "-W", CPU)
        return host_programs.attempt("as", *options, "-o", self.image, self.source).stderr.decode()

    def messages(self, lines: Sequence[str]) -> dict[int, str]:
        return {int(number) - 2: message for number, message in MESSAGE.findall(self.run(lines))}

    def code(self, lines: Sequence[str]) -> dict[str, bytes]:
        """Return the bytes of the lines that are accepted, each filled up to a slot."""
        refused = self.messages(lines)
        good = [line for number, line in enumerate(lines) if number not in refused]
        text = [item for number, line in enumerate(good, 1) for item in (line, f".org {number * SLOT}, {FILLER[0]}")]
        assert not self.run(text)
        host_programs.run("objcopy", "-O", "binary", "-j", ".text", self.image, self.binary)
        code = self.binary.read_bytes()
        return {line: code[at * SLOT : (at + 1) * SLOT] for at, line in enumerate(good)}

    def names(self) -> list[str]:
        """Return the names of instructions that this CPU has, in the order of the alphabet."""
        path = shutil.which("as", path=host_programs.PATH)
        assert path is not None
        # A string may be the end of another one.
        words = {word.decode() for word in NAME.findall(Path(path).resolve().read_bytes())}
        tails = sorted({word[at:] for word in words for at in range(len(word) - 1) if word[at].isalpha()})
        tails = [tail for tail in tails if len(tail) <= 12]
        messages = self.messages(tails)
        unknown = ("no such instruction", "is not supported", "only supported in 64-bit", "invalid instruction suffix")
        return [name for at, name in enumerate(tails) if not any(text in messages.get(at, "") for text in unknown)]


@pytest.fixture
def theirs(tmp_path: Path) -> GnuAs:
    host_programs.find("as", "objcopy")
    return GnuAs(tmp_path)


@pytest.fixture(autouse=True)
def no_suggestions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be right instead is found by trial, which takes its time."""
    monkeypatch.setattr(encode, "suggestion", lambda *_: "")


OPERANDS: dict[str, Operand] = {}


def ours(name: str, shape: Sequence[str]) -> bytes | None:
    """Return the assembler's bytes, filled up to a slot; None if it refuses the instruction."""
    for text in shape:
        if text not in OPERANDS:
            OPERANDS[text] = parse_operand(text, PLACE, 1, {}.__getitem__)  # type: ignore[arg-type]
    try:
        return encode.encode(name, [OPERANDS[text] for text in shape], PLACE).ljust(SLOT, FILLER)
    except AsmError:
        return None


# Forms of GNU as that are not in the manual, by name: what they are, and which operands it is about.
LOOSE = {
    "a size where the operand has none": "clflush invlpg prefetchnta prefetcht0 prefetcht1 prefetcht2 prefetchw lea",
    "another register for the operand that is implied": "in out rcl rcr rol ror sal sar shl shr shld shrd div idiv",
    "string instructions with an operand that they do not have": "ins insb insd insw lods lodsb lodsd lodsw outs outsb "
    "outsd outsw scas scasb scasd scasw stos stosb stosd stosw",
    "pairs of words, which are 16-bit code": "bound lds les lfs lgs lss",
    "names of AT&T for MOVSX and MOV": "movsb movsw movd",
    "a register that is extended to its own size": "movsx movzx",
    "no size where the stack may be misaligned": "push pop",
    "no operand where the manual has AX": "fnstsw fstsw",
    "a direct branch without selector": "ljmp lcall",
    "a prefix behind it": "wait fwait",
}
OURS_ALONE = {  # forms that GNU as does not have for this CPU, or refuses
    "endbr32": "of later CPUs, a NOP on this one",
    "icebp": "another name of INT1",
    "retn": "the name of MASM and NASM",
    "salc": "not in the manual",
    "fdivp": "the operands the wrong way round, where there is only one way",
    "fdivrp": "as fdivp",
    "fsubp": "as fdivp",
    "fsubrp": "as fdivp",
    "ljmp": "with a size word",
    "lcall": "with a size word",
}
SLICES = 100


def test_every_name_that_gnu_as_has_for_a_cpu_with_sse42_is_known(theirs: GnuAs) -> None:
    names = [name for name in theirs.names() if name not in MNEMONICS and not is_other_spelling(name)]
    left_out = {name for group in LEFT_OUT.values() for name in group.split()}
    assert sorted(set(names) - left_out) == []
    assert len(theirs.names()) > 700


def is_other_spelling(name: str) -> bool:
    """Whether a name is that of a known instruction with a size suffix, which GNU as takes from AT&T, or a prefix."""
    return (name[-1] in "bwdlqst" and name[:-1] in MNEMONICS | {"movz", "movs"}) or name in OTHER_SPELLINGS


@pytest.mark.thorough(one_in=SLICES)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_name_takes_the_operands_and_has_the_encodings_of_gnu_as(
    part: int, theirs: GnuAs, some_of: Callable[[list[str], int], list[str]]
) -> None:
    loose = {name for group in LOOSE.values() for name in group.split()}
    names = some_of(sorted(MNEMONICS - BRANCHES)[part::SLICES], 2)
    lines = {f"{name} {', '.join(shape)}".rstrip(): (name, shape) for name in names for shape in shapes()}
    known = theirs.code(list(lines))
    problems = []
    for line, (name, shape) in lines.items():
        code, wanted = ours(name, shape), known.get(line)
        if code == wanted or (wanted is None and name in OURS_ALONE) or (code is None and name in loose):
            continue
        problems.append(f"{line}: {code and code.hex(' ')}, GNU as has {wanted and wanted.hex(' ')}")
    assert not problems, f"{len(problems)}:\n" + "\n".join(problems[:40])
