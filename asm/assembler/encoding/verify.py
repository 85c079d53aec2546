"""Does the code say what the source says?  Every instruction is disassembled and compared.

Compared are mnemonic, number, kind and value of the operands, sizes of memory, and every prefix byte: an
operand-size prefix too many is how Keystone turns a 32-bit push into a 16-bit one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from callgate.asm.assembler.encoding.encodings import RIGHTS, UNDEFINED
from callgate.asm.assembler.encoding.instructions import Instruction
from callgate.asm.assembler.language.mnemonics import (
    COMPARISONS,
    FLOAT,
    IMPLIED,
    REPEATS,
    STRING_NAMES,
    VECTOR,
    WORD_FORMS,
)
from callgate.asm.assembler.language.operands import FarPointer, Immediate, Memory, Operand, Register
from callgate.asm.assembler.language.registers import GENERAL16, NUMBERS, SEGMENTS

# Capstone's names where they differ from ours.
NAMES = {"pushad": "pushal", "popad": "popal", "iretw": "iret", "pushfw": "pushf", "popfw": "popf"}
COMMUTATIVE = frozenset(("xchg", "test"))
PREFIX_BYTES = frozenset((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))
SEGMENT_BYTES = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
MANDATORY = frozenset(("pause", "endbr32", "popcnt", "crc32", "movbe"))
INT3_LONG = Instruction("int", (Immediate(3, 8),))
_decoder: Any = None
_kinds: tuple[int, int, int] = (0, 0, 0)


def decoder() -> Any:
    """Return the one decoder, with operand details."""
    global _decoder, _kinds
    if _decoder is None:
        from capstone import CS_ARCH_X86, CS_MODE_32, Cs
        from capstone.x86_const import X86_OP_IMM, X86_OP_MEM, X86_OP_REG

        _kinds = (X86_OP_REG, X86_OP_IMM, X86_OP_MEM)
        _decoder = Cs(CS_ARCH_X86, CS_MODE_32)
        _decoder.detail = True
    return _decoder


def verify(code: bytes, wanted: Instruction) -> str | None:
    """Return how the code differs from the instruction, None if it does not."""
    if wanted.mnemonic in UNDEFINED:  # Capstone leaves out their ModRM, which is that of a two-operand IMUL
        at = code.find(bytes([0x0F, UNDEFINED[wanted.mnemonic]]))
        code, wanted = code[: at + 1] + b"\xaf" + code[at + 2 :], replace(wanted, mnemonic="imul")
    decoded = next(iter(decoder().disasm(code, 0, 1)), None)
    if decoded is None or decoded.size != len(code):
        return "it is not one instruction"
    name = decoded.mnemonic.rpartition(" ")[2]
    if name != NAMES.get(wanted.mnemonic, wanted.mnemonic) and not far_name(name, wanted):
        return special_name(name, code, wanted) and f"that is {decoded.mnemonic}"
    return compare_prefixes(code, wanted) or compare_operands(decoded, wanted)


def special_name(name: str, code: bytes, wanted: Instruction) -> str | None:
    """Return the name if it cannot stand for the instruction; what passes here is compared in full."""
    if wanted == INT3_LONG and code == b"\xcc":
        return None
    registers = [op.name for op in wanted.operands if isinstance(op, Register)]
    if wanted.mnemonic == "xchg" and registers in (["eax", "eax"], ["ax", "ax"]):
        # XCHG with itself is NOP (SDM vol. 2, NOP).
        return None if code == (b"\x90" if registers[0] == "eax" else b"\x66\x90") else name
    last = wanted.operands[-1] if wanted.operands else None
    if wanted.mnemonic[:3] == "cmp" and wanted.mnemonic[3:] in ("ss", "sd", "ps", "pd") and isinstance(last, Immediate):
        full = f"cmp{COMPARISONS[last.value]}{wanted.mnemonic[3:]}" if last.value < len(COMPARISONS) else ""
        return None if name == full and code[-1] == last.value else name
    return name


def far_name(name: str, wanted: Instruction) -> bool:
    """Whether a name is the disassembler's for a far jump or call."""
    operand = wanted.operands[0] if wanted.operands else None
    far = isinstance(operand, FarPointer) or (isinstance(operand, Memory) and operand.far)
    return far and name == {"jmp": "ljmp", "call": "lcall"}.get(wanted.mnemonic)


def compare_prefixes(code: bytes, wanted: Instruction) -> str | None:
    """Return which prefix is missing or too many."""
    found = set()
    for byte in code:
        if byte not in PREFIX_BYTES:
            break
        found.add(byte)
    if wanted.mnemonic in MANDATORY or (wanted.mnemonic in VECTOR and not is_string(wanted)):
        found -= {0x66, 0xF2, 0xF3}
        word: bool | None = False
    else:
        word = has_word(wanted)
    segment = wanted.segment
    for operand in wanted.operands:
        if isinstance(operand, Memory) and operand.segment not in ("", operand.default_segment):
            segment = operand.segment
    expected = {byte for byte, name in SEGMENT_BYTES.items() if name == segment}
    if wanted.repeat:
        expected.add(0xF0 if wanted.repeat == "lock" else REPEATS[wanted.repeat])
    if word is None:
        found.discard(0x66)
    elif word:
        expected.add(0x66)
    if found != expected:
        have, want = (bytes(sorted(prefixes)).hex(" ") or "none" for prefixes in (found, expected))
        return f"prefixes {have} instead of {want}"
    return None


def has_word(wanted: Instruction) -> bool | None:
    """Whether an operand-size prefix must be there; None where the operands' own check decides."""
    if wanted.mnemonic in WORD_FORMS:
        return True
    if is_string(wanted):
        return STRING_NAMES[wanted.mnemonic][1] == 16
    words = [op for op in wanted.operands if isinstance(op, Register | Memory) and op.bits == 16]
    return None if words else False


def is_string(wanted: Instruction) -> bool:
    """Whether this is MOVSD and the like, not the SSE instruction of the same name."""
    return wanted.mnemonic in STRING_NAMES and not wanted.operands


def compare_operands(decoded: Any, wanted: Instruction) -> str | None:
    """Return how the operands differ."""
    if is_string(wanted):
        return None
    operands: Sequence[Operand] = wanted.operands
    found = list(decoded.operands)
    if wanted.mnemonic in FLOAT:
        operands = [op for op in operands if not (isinstance(op, Register) and op.name == "st(0)")]
        found = [op for op in found if not (op.type == _kinds[0] and decoded.reg_name(op.reg) == "st(0)")]
        # Left out, the second register of an x87 instruction is ST(1).
        if not operands and [decoded.reg_name(op.reg) for op in found if op.type == _kinds[0]] == ["st(1)"]:
            return None
    if wanted.mnemonic in IMPLIED and len(found) > len(operands):
        found = found[: len(operands)]
    if operands and isinstance(operands[0], FarPointer):
        numbers = [op.imm for op in found]
        pointer = operands[0]
        return None if numbers == [pointer.selector, pointer.offset] else f"far pointer {numbers}"
    if len(found) != len(operands):
        return f"{len(found)} operands instead of {len(operands)}"
    problem = compare_all(decoded, operands, found)
    if problem and wanted.mnemonic in COMMUTATIVE and compare_all(decoded, operands, found[::-1]) is None:
        return None
    return problem


def compare_all(decoded: Any, operands: Sequence[Operand], found: Sequence[Any]) -> str | None:
    """Return the first difference between operands."""
    if decoded.mnemonic in RIGHTS and len(found) == 2:
        return compare_rights(decoded, operands, found)
    if wide_selector(decoded, operands, found):
        return None
    for wanted, got in zip(operands, found, strict=True):
        problem = compare(decoded, wanted, got)
        if problem:
            return problem
    return None


def compare(decoded: Any, wanted: Operand, got: Any) -> str | None:
    """Return how an operand differs."""
    register, immediate, memory = _kinds
    if isinstance(wanted, Register):
        name = decoded.reg_name(got.reg) if got.type == register else "no register"
        return None if name == wanted.name else f"{name} instead of {wanted.name}"
    if isinstance(wanted, Immediate):
        if got.type != immediate:
            return "no number where one is written"
        mask = (1 << (wanted.bits or 32)) - 1
        return None if got.imm & mask == wanted.value & mask else f"{got.imm:#x} instead of {wanted.value:#x}"
    if isinstance(wanted, Memory):
        return compare_memory(decoded, wanted, got) if got.type == memory else "no memory operand"
    return "a far pointer"


def compare_rights(decoded: Any, operands: Sequence[Operand], found: Sequence[Any]) -> str | None:
    """Compare the operands of LAR and LSL, whose source is a selector whatever size Capstone has for it."""
    source = operands[1]
    if isinstance(source, Memory):
        source = replace(source, bits=0)
    elif isinstance(source, Register):
        number = NUMBERS[source.name]
        name = decoded.reg_name(found[1].reg)
        return compare(decoded, operands[0], found[0]) or (None if NUMBERS.get(name) == number else f"that is {name}")
    return compare(decoded, operands[0], found[0]) or compare(decoded, source, found[1])


def wide_selector(decoded: Any, operands: Sequence[Operand], found: Sequence[Any]) -> bool:
    """Whether this is `mov segment, register` with 16 bits, where Capstone names the 32-bit register."""
    if len(operands) != 2 or not all(isinstance(operand, Register) for operand in operands):
        return False
    names = [decoded.reg_name(operand.reg) for operand in found if operand.type == _kinds[0]]
    target, source = (operand.name for operand in operands if isinstance(operand, Register))
    return target in SEGMENTS and source in GENERAL16 and names == [target, "e" + source]


def compare_memory(decoded: Any, wanted: Memory, got: Any) -> str | None:
    """Compare every part of a memory operand."""
    found = got.mem
    base = decoded.reg_name(found.base) if found.base else ""
    index = decoded.reg_name(found.index) if found.index else ""
    if index == "eiz":
        index = ""
    parts = (base, index, found.scale if index else 1, found.disp & 0xFFFF_FFFF)
    written = (wanted.base, wanted.index, wanted.scale, wanted.displacement & 0xFFFF_FFFF)
    if parts != written:
        return f"address {parts} instead of {written}"
    if wanted.bits and not wanted.far and got.size * 8 != wanted.bits:
        return f"{got.size * 8} bits of memory instead of {wanted.bits}"
    return None
