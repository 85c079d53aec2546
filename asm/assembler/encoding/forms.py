"""The operands that an instruction takes, for the error about operands that it does not take.

The forms are not kept anywhere: samples of operands are put through the encoder, and those that it accepts and
that are most like what was written are shown.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

from callgate.asm.assembler.language.mnemonics import BRANCHES
from callgate.asm.assembler.language.operands import FarPointer, Immediate, Memory, Operand, Register
from callgate.asm.assembler.language.registers import SEGMENTS

SHOWN: Final = 3
MEMORY: Final = Memory(0, "", "ebx", "", 1, 0)
SAMPLES: Final[dict[str, Operand]] = {
    **{name: Register(name) for name in ("eax", "ecx", "al", "cl", "ax", "dx", "es", "cr0", "dr7")},
    **{name: Register(name) for name in ("xmm0", "xmm1", "mm0", "mm1", "st(0)", "st(1)")},
    "[ebx]": MEMORY,
    **{
        f"{word} ptr [ebx]": Memory(bits, "", "ebx", "", 1, 0)
        for word, bits in (("dword", 32), ("word", 16), ("byte", 8), ("qword", 64))
    },
    "1": Immediate(1),
}
PLAIN: Final = ("eax", "ecx", "al", "cl", "dx", "xmm0", "xmm1", "[ebx]", "dword ptr [ebx]", "1")
Accepts = Callable[[Sequence[Operand]], bool]

ACCEPTED: dict[str, list[tuple[str, ...]]] = {}  # by mnemonic, filled on demand


def suggestion(mnemonic: str, operands: Sequence[Operand], accepts: Accepts) -> str:
    """Return "write for instance …" with forms near to the one that was written; empty if there is none."""
    if mnemonic in BRANCHES and mnemonic not in ("jmp", "call"):
        return f"write {mnemonic} label"
    if mnemonic not in ACCEPTED:
        ACCEPTED[mnemonic] = [texts for texts in candidates() if accepts([SAMPLES[text] for text in texts])]
    found: dict[tuple[str, ...], str] = {}  # the nearest of each sequence of kinds
    for texts in sorted(ACCEPTED[mnemonic], key=lambda texts: distance(operands, [SAMPLES[text] for text in texts])):
        kinds = tuple(kind(SAMPLES[text]) for text in texts)
        found.setdefault(kinds, f"{mnemonic} {', '.join(texts)}".rstrip())
    shown = list(found.values())[:SHOWN]
    return f"write for instance {' or '.join(shown)}" if shown else ""


def candidates() -> list[tuple[str, ...]]:
    """Return the samples' combinations, plain ones first."""
    pairs = [pair for pair in product(SAMPLES, repeat=2) if pair[0] != pair[1] or pair[0] == "1"]
    triples = [(*pair, third) for pair in product(PLAIN, repeat=2) for third in ("1", "cl") if pair[0] != pair[1]]
    return [(), *((text,) for text in SAMPLES), *pairs, *triples]


def distance(written: Sequence[Operand], sample: Sequence[Operand]) -> int:
    """Return how far a form is from what was written: operands more or fewer, kinds that differ, sizes that differ."""
    unlike = 100 * abs(len(written) - len(sample))
    for one, other in zip(written, sample, strict=False):
        if kind(one) != kind(other):
            unlike += 10
        elif isinstance(one, Register | Memory) and isinstance(other, Register | Memory):
            unlike += int(one.bits != other.bits)
    return unlike


def kind(operand: Operand) -> str:
    """Return the kind of an operand; registers of one file are of one kind."""
    if isinstance(operand, Register):
        name = operand.name
        file = name.rstrip("0123456789()")
        return file if file in ("xmm", "mm", "st", "cr", "dr") else "segment" if name in SEGMENTS else "general"
    return {Memory: "memory", Immediate: "number", FarPointer: "far"}[type(operand)]
