"""One instruction to bytes: the gaps by our own table, everything else by Keystone, all of it verified.

Keystone is only ever given one line that was printed from checked operands with a mnemonic of our table,
so nothing that a user writes can reach its parser.  Segment overrides, LOCK and REP are put in front
here, in the order of GNU as.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from callgate.asm.assembler.encoding.encodings import encode_gap
from callgate.asm.assembler.encoding.forms import suggestion
from callgate.asm.assembler.encoding.instructions import Instruction, complete
from callgate.asm.assembler.encoding.verify import PREFIX_BYTES, verify
from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import (
    ALIASES,
    COMPARES,
    IMPLIED,
    MNEMONICS,
    NOTRACK,
    POPPING,
    REPEATED_BY_COMPILERS,
    REPEATS,
    STRING_NAMES,
    STRINGS,
    WAITING,
)
from callgate.asm.assembler.language.operands import FarPointer, Immediate, Memory, Operand, Register, check_range
from callgate.asm.assembler.language.registers import SEGMENT_PREFIXES
from callgate.kernel.common.near_miss import did_you_mean

SIZE_WORDS = {
    8: "byte ptr ",
    16: "word ptr ",
    32: "dword ptr ",
    64: "qword ptr ",
    80: "tbyte ptr ",
    128: "xmmword ptr ",
}
CACHE_SIZE = 1 << 16
WIDE = 0x7654_3210  # a number that needs 32 bits
XLAT_SOURCE = [Memory(0, "", "ebx", "", 1, 0)]


def encode(
    mnemonic: str, operands: Sequence[Operand], place: Place, prefix: str = "", columns: Sequence[int] = ()
) -> bytes:
    """Return the bytes of one instruction; AsmError if there is no such instruction.

    `columns` are those of the operands, for errors.

    `prefix` is lock, rep, repe, repne, notrack or a segment register (string instructions only), or several of
    them with blanks between.
    """
    words = prefix.split()
    if NOTRACK in words:
        rest = " ".join(word for word in words if word != NOTRACK)
        refuse_tracked(mnemonic, operands, rest, place)
        return b"\x3e" + encode(mnemonic, operands, place, rest, columns)
    segment = next((word for word in words if word in SEGMENT_PREFIXES), "")
    repeats = [word for word in words if word not in SEGMENT_PREFIXES]
    if len(repeats) > 1:
        raise AsmError(place, f"{' and '.join(repeats)} cannot stand together", "write one of them")
    if mnemonic not in MNEMONICS:
        raise AsmError(place, f"there is no instruction {mnemonic}", did_you_mean(mnemonic, MNEMONICS))
    columns = columns or [place.column] * len(operands)
    mnemonic, operands = far_form(mnemonic, list(operands), place, columns)
    mnemonic, operands = plain_form(mnemonic, operands)
    columns = [*columns, place.column]  # of a number that stands in the name
    written = Instruction(ALIASES.get(mnemonic, mnemonic), tuple(operands), "".join(repeats), segment)
    try:
        refuse_two_memories(written)
        return encoded(complete(written, place, columns[: len(operands)]))
    except EncodingError as error:
        hint = error.hint or suggestion(mnemonic, operands, partial(accepted, mnemonic, place))
        raise AsmError(place, error.message, hint) from None


def refuse_tracked(mnemonic: str, operands: Sequence[Operand], rest: str, place: Place) -> None:
    """Refuse NOTRACK before anything but near indirect branches (Intel SDM vol. 1, 17.3.4)."""
    match operands:
        case [Register() | Memory(segment="", far=False)] if mnemonic in ("jmp", "call") and not rest:
            return
    hint = "it stands before jmp and call to where a register or memory says"
    raise AsmError(place, f"{NOTRACK} cannot stand before {mnemonic} here", hint)


def encode_wide(
    mnemonic: str, operands: Sequence[Operand], place: Place, prefix: str, columns: Sequence[int], wide: int
) -> bytes:
    """Return an instruction in which the numbers of some operands (bits of `wide`) have 32 bits, however small.

    Linkers fill such fields; code that compilers write for any address counts on their size.
    """
    marked = [with_number(operand, WIDE + at) if wide >> at & 1 else operand for at, operand in enumerate(operands)]
    code = encode(mnemonic, marked, place, prefix, columns)
    for at, operand in enumerate(operands):
        mark = (WIDE + at).to_bytes(4, "little")
        if wide >> at & 1 and code.count(mark) == 1:
            code = code.replace(mark, (number_of(operand) & 0xFFFF_FFFF).to_bytes(4, "little"))
    return code


def with_number(operand: Operand, number: int) -> Operand:
    """Return an operand with another displacement or value."""
    if isinstance(operand, Memory):
        return replace(operand, displacement=number)
    return replace(operand, value=number) if isinstance(operand, Immediate) else operand


def number_of(operand: Operand) -> int:
    """Return the displacement or value of an operand."""
    if isinstance(operand, Memory):
        return operand.displacement
    return operand.value if isinstance(operand, Immediate) else 0


def accepted(mnemonic: str, place: Place, operands: Sequence[Operand]) -> bool:
    """Whether there is an instruction with these operands."""
    mnemonic, operands = plain_form(mnemonic, list(operands))
    instruction = Instruction(ALIASES.get(mnemonic, mnemonic), tuple(operands))
    try:
        return bool(encoded(complete(instruction, place, [place.column] * len(operands))))
    except (AsmError, EncodingError):
        return False


def refuse_two_memories(instruction: Instruction) -> None:
    """Refuse two memory operands, before their sizes are checked."""
    strings = instruction.mnemonic in STRINGS or instruction.mnemonic in STRING_NAMES
    if not strings and sum(isinstance(operand, Memory) for operand in instruction.operands) > 1:
        raise EncodingError(f"{instruction.mnemonic} takes one operand from memory, not two")


def far_form(mnemonic: str, operands: list[Operand], place: Place, columns: Sequence[int]) -> tuple[str, list[Operand]]:
    """Return `ljmp` and `lcall` as far forms of `jmp` and `call`."""
    if mnemonic not in ("ljmp", "lcall"):
        return mnemonic, operands
    match operands:
        case [Immediate(value=selector), Immediate(value=offset)]:
            parts = check_range(selector, 16, place, columns[0]), check_range(offset, 32, place, columns[1])
            return mnemonic[1:], [FarPointer(*parts)]
        case [FarPointer()]:
            return mnemonic[1:], operands
        case [Memory(bits=0 | 48) as memory]:
            return mnemonic[1:], [replace(memory, far=True)]
    raise AsmError(place, f"{mnemonic} takes selector:offset or 48 bits of memory", f"write {mnemonic} [address]")


def plain_form(mnemonic: str, operands: list[Operand]) -> tuple[str, list[Operand]]:
    """Return `cmpeqps` as `cmpps` with a number, and leave operands out that are implied."""
    if mnemonic in COMPARES:
        mnemonic, number = COMPARES[mnemonic]
        return mnemonic, [*operands, Immediate(number)]
    if mnemonic in ("xlat", "xlatb") and operands in (XLAT_SOURCE, [replace(XLAT_SOURCE[0], bits=8)]):
        return mnemonic, []
    if mnemonic in POPPING and not operands:
        return mnemonic + "p", []
    names = IMPLIED.get(mnemonic, ())
    tail = tuple(op.name if isinstance(op, Register) else "" for op in operands[len(operands) - len(names) :])
    explicit = len(operands) > (2 if mnemonic not in ("monitor", "mwait") else 0)
    return mnemonic, operands[: -len(names)] if names and explicit and tail == names else operands


class EncodingError(Exception):
    """There is no such instruction, or its encoding failed the check."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@lru_cache(maxsize=CACHE_SIZE)
def encoded(instruction: Instruction) -> bytes:
    """Return prefixes, opcode and operands, compared with what Capstone reads in them."""
    if instruction.mnemonic in WAITING:
        return b"\x9b" + encoded(replace(instruction, mnemonic=WAITING[instruction.mnemonic]))
    if instruction.mnemonic in REPEATED_BY_COMPILERS and instruction.repeat:
        code = encoded(replace(instruction, repeat=""))
        at = next(at for at, byte in enumerate(code) if byte not in PREFIX_BYTES)
        return code[:at] + b"\xf3" + code[at:]
    if instruction.mnemonic in STRING_NAMES and not instruction.operands:
        code = string_bytes(instruction.mnemonic)
    else:
        code = core(instruction.mnemonic, instruction.operands)
    code = with_prefixes(instruction, code)
    problem = verify(code, instruction)
    if problem:
        raise EncodingError(f"{text(instruction)} would be encoded wrongly as {code.hex(' ')}: {problem}")
    return code


def string_bytes(mnemonic: str) -> bytes:
    """Return the opcode of a string instruction."""
    stem, bits = STRING_NAMES[mnemonic]
    opcode = STRINGS[stem][0]
    return {8: bytes([opcode]), 16: bytes([0x66, opcode + 1]), 32: bytes([opcode + 1])}[bits]


@lru_cache(maxsize=CACHE_SIZE)
def core(mnemonic: str, operands: tuple[Operand, ...]) -> bytes:
    """Return the bytes without segment, LOCK and REP prefixes."""
    place = Place("", 0)
    try:
        gap = encode_gap(mnemonic, operands, place)
    except AsmError as error:
        raise EncodingError(error.message, error.hint) from None
    return keystone(mnemonic, operands) if gap is None else gap


def with_prefixes(instruction: Instruction, code: bytes) -> bytes:
    """Put prefixes in front: segment, operand size, then LOCK or REP."""
    front = b""
    for operand in instruction.operands:
        if isinstance(operand, Memory) and operand.segment not in ("", operand.default_segment):
            front = bytes([SEGMENT_PREFIXES[operand.segment]])
    if instruction.segment:
        front = bytes([SEGMENT_PREFIXES[instruction.segment]])
    if not instruction.repeat:
        return front + code
    if code[0] == 0x66:
        front, code = front + code[:1], code[1:]
    return front + bytes([0xF0 if instruction.repeat == "lock" else REPEATS[instruction.repeat]]) + code


_engine: Any = None


def keystone(mnemonic: str, operands: Sequence[Operand]) -> bytes:
    """Return Keystone's bytes for one instruction."""
    global _engine
    from keystone import KS_ARCH_X86, KS_MODE_32, Ks, KsError

    if _engine is None:
        _engine = Ks(KS_ARCH_X86, KS_MODE_32)
    line = f"{mnemonic} {', '.join(keystone_operand(operand, mnemonic) for operand in operands)}".rstrip()
    try:
        code, _ = _engine.asm(line, as_bytes=True)
    except KsError:
        code = None
    if not code:
        shapes = " and ".join(shape(operand) for operand in operands) or "no operands"
        raise EncodingError(f"there is no {mnemonic} with {shapes}")
    return bytes(code)


def keystone_operand(operand: Operand, mnemonic: str) -> str:
    """Return an operand as Keystone reads it."""
    if isinstance(operand, Memory):
        size = "" if mnemonic in NO_SIZE_WORD else SIZE_WORDS.get(operand.bits, "")
        return f"{size}[{address(operand)}]"
    if isinstance(operand, Register):
        return operand.name
    if isinstance(operand, Immediate):
        return str(operand.value)
    raise EncodingError(f"{mnemonic} takes no selector:offset", "only jmp and call do")


NO_SIZE_WORD = frozenset(("invlpg", "clflush", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2", "prefetchw"))


def address(memory: Memory) -> str:
    """Return the text between the brackets."""
    terms = [memory.base] if memory.base else []
    if memory.index:
        terms.append(f"{memory.index}*{memory.scale}")
    if not terms:
        return str(memory.displacement & 0xFFFF_FFFF)
    inner = " + ".join(terms)
    if memory.displacement:
        inner += f" {'-' if memory.displacement < 0 else '+'} {abs(memory.displacement)}"
    return inner


def text(instruction: Instruction) -> str:
    """Return an instruction in canonical words: sizes, segments and numbers written out."""
    words = [word for word in (instruction.repeat, instruction.segment, instruction.mnemonic) if word]
    operands = ", ".join(operand_text(operand) for operand in instruction.operands)
    return f"{' '.join(words)} {operands}".rstrip()


def operand_text(operand: Operand) -> str:
    """Return one operand in canonical words."""
    if isinstance(operand, Memory):
        segment = f"{operand.segment}:" if operand.segment else ""
        size = "fword ptr " if operand.far else SIZE_WORDS.get(operand.bits, "")
        return f"{size}{segment}[{address(operand)}]"
    if isinstance(operand, FarPointer):
        return f"{operand.selector:#x}:{operand.offset:#x}"
    return operand.name if isinstance(operand, Register) else str(operand.value)


def shape(operand: Operand) -> str:
    """Describe an operand's kind."""
    if isinstance(operand, Register):
        return operand.name
    if isinstance(operand, Memory):
        return f"{operand.bits} bits of memory" if operand.bits else "memory"
    return "a number" if isinstance(operand, Immediate) else "selector:offset"
