"""What an instruction's operands mean together: sizes, ranges, prefixes.

The result has no open question left: every memory operand has its size, every number fits its field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import (
    ARITHMETIC,
    FLOAT,
    IMMEDIATE_BITS,
    LOCKABLE,
    MEMORY_SIZES,
    REPEATED_BY_COMPILERS,
    REPEATS,
    SHIFTS,
    STRING_NAMES,
    STRINGS,
    UNRELATED_SIZES,
    UNSAID_SIZES,
    UNSIGNED_IMMEDIATES,
    VECTOR,
)
from callgate.asm.assembler.language.operands import Immediate, Memory, Operand, Register
from callgate.asm.assembler.language.registers import GENERAL

SAME_SIZE = ARITHMETIC | {"mov", "test", "xchg", "cmpxchg", "xadd"}
# Sizes that may be written although they are not the usual one, or the operand usually has none.
SHORT_NUMBERS = ARITHMETIC | {"imul", "push"}  # with a form for numbers of 8 bits, which are sign-extended
OTHER_SIZES = frozenset((("bound", 64),))
FAR_FORMS = frozenset("jmp call lds les lfs lgs lss lgdt lidt sgdt sidt".split())
PAIRS = frozenset("bound lds les lfs lgs lss".split())
AMBIGUOUS = "say `byte ptr`, `word ptr` or `dword ptr`"


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction to encode: `repeat` is lock, rep, repe, repne or empty, `segment` a string's override."""

    mnemonic: str
    operands: tuple[Operand, ...] = ()
    repeat: str = ""
    segment: str = ""


def complete(instruction: Instruction, place: Place, columns: Sequence[int]) -> Instruction:
    """Return the instruction with sizes settled; AsmError for an instruction that no CPU executes."""
    mnemonic = instruction.mnemonic
    operands = spread_sizes(list(instruction.operands))
    check_pair(mnemonic, operands, place)
    if mnemonic in STRINGS or mnemonic in STRING_NAMES:
        if not (mnemonic in VECTOR and operands and any(is_vector(operand) for operand in operands)):
            instruction = string_instruction(instruction, operands, place)
            check_repeat(instruction, place)
            return instruction
    operands = [
        sized(mnemonic, operand, operands, place.at(column)) for operand, column in zip(operands, columns, strict=True)
    ]
    check_sizes(mnemonic, operands, place)
    operands = [
        ranged(mnemonic, position, operand, operands, place.at(column))
        for position, (operand, column) in enumerate(zip(operands, columns, strict=True))
    ]
    if mnemonic == "imul" and len(operands) == 2 and isinstance(operands[1], Immediate):
        operands = [operands[0], *operands]
    if mnemonic in ("aam", "aad") and not operands:
        operands = [Immediate(10, 8)]
    if mnemonic in SHIFTS and len(operands) == 1:
        operands = [*operands, Immediate(1, 8)]
    result = replace(instruction, operands=tuple(operands))
    check_repeat(result, place)
    return result


def is_vector(operand: Operand) -> bool:
    """Whether an operand is an MMX or SSE register."""
    return isinstance(operand, Register) and operand.name.startswith(("xmm", "mm"))


def spread_sizes(operands: list[Operand]) -> list[Operand]:
    """Let a size word before a number (`mov [eax], dword 1`) speak for the memory operand."""
    said = next((op.bits for op in operands if isinstance(op, Immediate) and op.bits), 0)
    if not said or not any(isinstance(op, Memory) for op in operands):
        return operands
    return [replace(op, bits=said) if isinstance(op, Memory) and not op.bits else op for op in operands]


def sized(mnemonic: str, operand: Operand, operands: list[Operand], place: Place) -> Operand:
    """Give a memory operand the size that mnemonic or registers imply."""
    if isinstance(operand, Memory) and operand.far and mnemonic not in FAR_FORMS:
        raise AsmError(place, f"{mnemonic} takes no far pointer", "fword and far are for jmp, call, lds and lgdt")
    if not isinstance(operand, Memory) or operand.far:
        return operand
    if mnemonic == "lea":
        return replace(operand, bits=0)
    if (mnemonic, operand.bits) in UNSAID_SIZES and any(is_vector(other) for other in operands):
        wide = any(isinstance(other, Register) and other.bits == 128 for other in operands)
        return replace(operand, bits=0) if wide == (mnemonic == "comisd") else operand
    if operand.bits:
        return check_memory_size(mnemonic, operand, place)
    return replace(operand, bits=implied_size(mnemonic, operands, place))


def check_memory_size(mnemonic: str, operand: Memory, place: Place) -> Memory:
    """Refuse a written size that an instruction with one size does not have."""
    wanted = MEMORY_SIZES.get(mnemonic)
    if wanted is None or operand.bits == wanted or (mnemonic, operand.bits) in OTHER_SIZES:
        return replace(operand, bits=0) if wanted == 0 else operand
    what = f"one of {wanted} bits" if wanted else "no size word"
    raise AsmError(place, f"{mnemonic} takes {what}, not {operand.bits} bits", "leave the size word out")


def implied_size(mnemonic: str, operands: list[Operand], place: Place) -> int:
    """Return the size in bits of a memory operand without size word, 0 where there is none to write."""
    if mnemonic in MEMORY_SIZES:
        return MEMORY_SIZES[mnemonic]
    registers = [operand for operand in operands if isinstance(operand, Register)]
    if mnemonic in VECTOR and any(is_vector(register) for register in registers):
        return 0
    if registers and mnemonic not in UNRELATED_SIZES:
        return registers[0].bits
    if mnemonic in FLOAT:
        raise AsmError(
            place, "the size of the memory operand is not given", "say `dword ptr`, `qword ptr` or `tbyte ptr`"
        )
    raise AsmError(place, "the size of the memory operand is not given", AMBIGUOUS)


def check_pair(mnemonic: str, operands: list[Operand], place: Place) -> None:
    """Refuse a pair in memory whose written size is that of a pair for a register of 32 bits."""
    match operands:
        case [Register(bits=16), Memory(bits=48 | 64)] if mnemonic in PAIRS:
            raise AsmError(place, f"{mnemonic} reads 32 bits into a register of 16", "use a register of 32 bits")


def check_sizes(mnemonic: str, operands: list[Operand], place: Place) -> None:
    """Refuse two operands of different sizes where they must agree."""
    if mnemonic not in SAME_SIZE or len(operands) != 2:
        return
    sizes = [op.bits for op in operands if isinstance(op, Memory) or (isinstance(op, Register) and op.name in GENERAL)]
    if len(sizes) == 2 and sizes[0] != sizes[1] and all(sizes):
        hint = "use registers of one size, or movzx and movsx"
        raise AsmError(place, f"the operands have {sizes[0]} and {sizes[1]} bits", hint)


def ranged(mnemonic: str, position: int, operand: Operand, operands: list[Operand], place: Place) -> Operand:
    """Bound a number by its field, and bring it to the form that the encoders expect."""
    if not isinstance(operand, Immediate):
        return operand
    if mnemonic == "push" and operand.bits not in (0, 8, 32):
        raise AsmError(
            place, "only 32-bit numbers are pushed: a smaller push would misalign the stack", "write push number"
        )
    bits = immediate_bits(mnemonic, position, operands)
    value = operand.value
    check_said(mnemonic, operand, bits, place)
    if mnemonic in UNSIGNED_IMMEDIATES and not (mnemonic in VECTOR and -128 <= value < 0):
        if not 0 <= value < 1 << bits:
            hint = "put the port number into dx" if mnemonic in ("in", "out") else f"write 0 to {(1 << bits) - 1:#x}"
            raise AsmError(place, f"{value:#x} does not fit the {bits} bits that {mnemonic} has for it", hint)
        return Immediate(value, bits)
    what = f"the {bits}-bit operand holds no"
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise AsmError(place, f"{what} {value:#x}", f"write {-(1 << bits - 1):#x} to {(1 << bits) - 1:#x}")
    return Immediate(value - (1 << bits) if value >> bits - 1 > 0 else value, bits)


def check_said(mnemonic: str, operand: Immediate, bits: int, place: Place) -> None:
    """Refuse a size word before a number that is not the size of the operation.

    NASM's `add eax, byte 5` and `push byte 5` ask for the short form of a number, which is chosen anyway.
    """
    said = operand.bits
    worded = operand.pointer and mnemonic != "push"
    short = said == 8 and mnemonic in SHORT_NUMBERS and not worded and -128 <= operand.value < 128
    if said and said != bits and not short:
        hint = f"leave the size word out, or write [{operand.value}] for the memory there"
        raise AsmError(place, f"the number has {bits} bits in this {mnemonic}, not {said}", hint)
    if operand.distance:
        raise AsmError(place, f"{operand.distance} is for jumps and calls", "leave it out")


def immediate_bits(mnemonic: str, position: int, operands: list[Operand]) -> int:
    """Return the width of an immediate's field as the CPU sees it."""
    if mnemonic == "enter" and position == 1:
        return 8
    if mnemonic in IMMEDIATE_BITS:
        return IMMEDIATE_BITS[mnemonic]
    first = operands[0]
    return first.bits if isinstance(first, Register | Memory) and first.bits in (8, 16, 32) else 32


def check_repeat(instruction: Instruction, place: Place) -> None:
    """Refuse prefixes that the CPU would answer with #UD, or ignore."""
    mnemonic, repeat = instruction.mnemonic, instruction.repeat
    if repeat == "lock":
        target = instruction.operands[0] if instruction.operands else None
        exchange = mnemonic == "xchg" and any(isinstance(op, Memory) for op in instruction.operands)
        if mnemonic not in LOCKABLE or not (isinstance(target, Memory) or exchange):
            hint = "lock stands before a read-modify-write of memory (Intel SDM vol. 2, LOCK)"
            raise AsmError(place, f"lock {mnemonic} raises #UD with these operands", hint)
    elif repeat and mnemonic in REPEATED_BY_COMPILERS and REPEATS[repeat] == 0xF3:
        return
    elif repeat and mnemonic not in STRING_NAMES:
        raise AsmError(place, f"{repeat} cannot stand before {mnemonic}", "it repeats string instructions")
    elif REPEATS.get(repeat) == 0xF2 and mnemonic[:-1] not in ("cmps", "scas"):
        raise AsmError(place, f"{repeat} tests nothing before {mnemonic}", "write rep")
    if instruction.segment and mnemonic not in STRING_NAMES:
        hint = f"write {instruction.segment}:[address] in the operand"
        raise AsmError(place, f"{instruction.segment} cannot stand before {mnemonic}", hint)


def string_instruction(instruction: Instruction, operands: list[Operand], place: Place) -> Instruction:
    """Return the short form of a string instruction; operands that are written must be the implied ones."""
    mnemonic = instruction.mnemonic
    stem, bits = STRING_NAMES.get(mnemonic, (mnemonic, 0))
    _, wanted = STRINGS[stem]
    if not operands:
        if not bits:
            raise AsmError(place, f"{mnemonic} needs a size", f"write {mnemonic}b, {mnemonic}w or {mnemonic}d")
        return Instruction(mnemonic, (), instruction.repeat, checked_segment(stem, instruction.segment, place))
    if len(operands) != 2:
        raise AsmError(place, f"{mnemonic} takes two operands or none", f"write {stem}b, {stem}w or {stem}d")
    segment = instruction.segment
    for operand, register in zip(operands, wanted, strict=True):
        size, override = string_operand(operand, register, place)
        if size and bits and size != bits:
            raise AsmError(place, f"the operands of {mnemonic} have different sizes", "say one size, or none")
        bits = bits or size
        segment = override or segment
    if bits not in (8, 16, 32):
        raise AsmError(place, f"the size of {mnemonic} is not given", AMBIGUOUS)
    name = stem + {8: "b", 16: "w", 32: "d"}[bits]
    return Instruction(name, (), instruction.repeat, checked_segment(stem, segment, place))


def checked_segment(stem: str, segment: str, place: Place) -> str:
    """Return an override of a string instruction's source, empty if it is the default."""
    if segment and "esi" not in STRINGS[stem][1]:
        raise AsmError(place, f"{stem} has no source in memory; es:[edi] cannot be overridden", "load es")
    return "" if segment == "ds" else segment


def string_operand(operand: Operand, register: str, place: Place) -> tuple[int, str]:
    """Check one written operand of a string instruction; return its size and the source's segment."""
    if isinstance(operand, Memory) and (operand.base, operand.index, operand.displacement) == (register, "", 0):
        if register == "edi" and operand.segment not in ("", "es"):
            raise AsmError(place, "the destination of a string instruction is always es:[edi]", "load es")
        return operand.bits, operand.segment if register == "esi" else ""
    if isinstance(operand, Register):
        if register == "a" and operand.name in ("al", "ax", "eax"):
            return operand.bits, ""
        if register == "dx" and operand.name == "dx":
            return 0, ""
    hint = "its operands are es:[edi], [esi], al/ax/eax and dx; best leave them out"
    raise AsmError(place, "a string instruction has no such operand", hint)
