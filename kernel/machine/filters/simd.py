"""Checks of SSE instructions that the engine leaves out, found from their bytes.

* Operands of 16 bytes in memory have to be aligned, except for MOVUPS and the like (Intel SDM vol. 1, 10.4.1.1 and
  11.6; vol. 2, exception type 2, 4 and 5): else #GP(0). The engine does not check.
* The engine notes exceptions of SSE and x87 arithmetic where MXCSR and the status word do not show them
  (`machine.engine.float_layout`).  They are *gathered* before each instruction that computes, loads or stores those
  words.
* RCP and RSQRT raise no exceptions (SDM vol. 2); the engine divides for them, and notes what the division raises.
* PCMPISTRI and its kin with "equal ordered" come out wrong, and PCMPESTRI can end the process
  (`machine.filters.strings`).

A `Form` says what host code (`machine.engine.counter_code`) checks before an instruction, without asking Python.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from callgate.kernel.machine.engine.sites import (
    ALIGNED,
    ALWAYS,
    COMPUTES,
    DISCARDS,
    GATHERS,
    GATHERS_X87,
    LENGTHS,
    STACK,
    UNMASKED,
)
from callgate.kernel.machine.filters.x87 import FBSTP, REGISTER_FORM, Demand, demand_of

# In 32-bit mode hardly any other instruction has these pairs of bytes.
SUSPICIOUS: Final = re.compile(
    rb"\x0f[\x10-\x17\x28-\x2f\x38\x3a\x50-\x7f\xae\xc2\xc4-\xc6\xd0-\xff]"
    rb"|\x9b|[\xd8-\xdf]"
)
PREFIXES: Final = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
ESCAPE: Final = 0x0F
ALIGNMENT: Final = 16
MEMORY_OPERAND: Final = 3  # capstone's CS_OP_MEM
UNALIGNED: Final = frozenset(
    {"movups", "movupd", "movdqu", "lddqu", "pcmpistri", "pcmpistrm", "pcmpestri", "pcmpestrm", "comisd"}
)  # COMISD loads 8 bytes, whatever the decoder says
AREAS: Final = frozenset({"fxsave", "fxrstor"})  # of x87 and SSE registers
CONTROL_WORDS: Final = frozenset({"ldmxcsr", "stmxcsr"})
WAIT: Final = 0x9B
X87: Final = range(0xD8, 0xE0)
# Opcodes of arithmetic that can raise exceptions, with whatever prefix; other instructions cost time only.
ARITHMETIC: Final = frozenset({0x2A, *range(0x2C, 0x30), 0x51, *range(0x58, 0x60), 0x7C, 0x7D, 0xC2, 0xD0, 0xE6})
ROUNDS: Final = frozenset(range(0x08, 0x0C))
ROUND_QUIETLY: Final = 8  # bit of their immediate byte: PE is not raised
ARITHMETIC_3A: Final = ROUNDS | {0x40, 0x41}  # DPPS and DPPD
RECIPROCALS: Final = frozenset({0x52, 0x53})
STRINGS: Final = frozenset(range(0x60, 0x64))  # 0F 3A: PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI
EXPLICIT: Final = frozenset({0x60, 0x61})  # those whose lengths are in EAX and EDX
EQUAL_ORDERED: Final = 0x0C  # both of these bits of their immediate byte
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


class Form(NamedTuple):
    """The checks before an instruction, and the parts of its operand's address.

    With STACK, `scale` and `displacement` are the registers that have to be in use or empty (`machine.filters.x87`).
    """

    look: int
    base: int = -1  # number of a general register, -1: none
    scaled: int = -1  # the same, of the register that is multiplied by `scale`
    scale: int = 0
    segment: str = "ds"
    displacement: int = 0  # modulo ALIGNMENT


class Address(NamedTuple):
    """The parts of the address of an operand in memory; names of registers, "" for none."""

    base: str
    scaled: str
    scale: int
    segment: str
    displacement: int


def address_of(instruction: Any, operand: Any) -> Address:
    """Return the parts of a decoded operand's address, 16-bit registers by their own names."""
    memory = operand.mem
    base = instruction.reg_name(memory.base) if memory.base else ""
    index = instruction.reg_name(memory.index) if memory.index else ""
    default = "ss" if base in ("esp", "ebp", "bp") else "ds"
    segment = instruction.reg_name(memory.segment) if memory.segment else default
    return Address(base, index, memory.scale, segment, int(memory.disp))


def memory_operand(instruction: Any) -> Any:
    """Return the operand in memory of a decoded instruction, None if there is none."""
    return next((operand for operand in instruction.operands if operand.type == MEMORY_OPERAND), None)


def wants_alignment(instruction: Any) -> bool:
    """Whether a CPU wants a decoded instruction's operand in memory to be aligned to 16 bytes."""
    operand = memory_operand(instruction)
    if operand is None or instruction.mnemonic in UNALIGNED or instruction.mnemonic.startswith("sha"):
        return False
    return instruction.mnemonic in AREAS or operand.size == ALIGNMENT


def opcode_of(code: bytes) -> tuple[int, int]:
    """Return (map, opcode) of an instruction: map 0Fh, 38h or 3Ah, (0, opcode) for one byte."""
    body = code.lstrip(PREFIXES)
    if body[:1] != bytes([ESCAPE]):
        return 0, body[0]
    return (body[1], body[2]) if body[1] in (0x38, 0x3A) else (ESCAPE, body[1])


def looks(instruction: Any) -> int:
    """Return the bits of the work before a decoded instruction, 0 if it is none of those of this module."""
    mnemonic = str(instruction.mnemonic)
    kind, opcode = opcode_of(bytes(instruction.bytes))
    if not kind:
        return looks_x87(opcode, instruction)
    found = ALIGNED if wants_alignment(instruction) else 0
    if mnemonic in AREAS:
        return found | GATHERS | GATHERS_X87
    if mnemonic in CONTROL_WORDS:
        return GATHERS
    if (kind == ESCAPE and opcode in ARITHMETIC) or (kind == 0x3A and opcode in ARITHMETIC_3A):
        quiet = kind == 0x3A and opcode in ROUNDS and instruction.bytes[-1] & ROUND_QUIETLY
        return found | UNMASKED | (GATHERS | DISCARDS if quiet else COMPUTES)
    if kind == ESCAPE and opcode in RECIPROCALS:
        return found | GATHERS | DISCARDS
    if kind == 0x3A and opcode in STRINGS:
        ordered = instruction.bytes[-1] & EQUAL_ORDERED == EQUAL_ORDERED
        return (ALWAYS if ordered else 0) | (LENGTHS if opcode in EXPLICIT else 0)
    return found


def looks_x87(opcode: int, instruction: Any) -> int:
    """Return the bits for an instruction of one opcode byte."""
    if opcode not in X87:
        return GATHERS_X87 if opcode == WAIT else 0
    modrm = bytes(instruction.bytes).lstrip(PREFIXES)[1]
    always = ALWAYS if modrm < REGISTER_FORM and (opcode << 8 | modrm & 0x38) == FBSTP else 0
    return GATHERS_X87 | always | (STACK if demand_of(opcode, modrm).waits else 0)


def demand(instruction: Any) -> Demand:
    """Return what a decoded x87 instruction asks of the register stack."""
    opcode, modrm = bytes(instruction.bytes).lstrip(PREFIXES)[:2]
    return demand_of(opcode, modrm)


@lru_cache(maxsize=1024)
def number_of(name: str) -> int:
    """Return the number of a general register by its 32- or 16-bit name, -1 for none."""
    return next((index for index, wide in enumerate(GENERAL) if name in (wide, wide[1:])), -1)


def form_of(instruction: Any) -> Form | None:
    """Return the checks before a decoded instruction, None if there are none."""
    look = looks(instruction)
    if look & STACK:
        asked = demand(instruction)
        return Form(look, scale=asked.used | asked.copied, displacement=asked.loaded)
    if not look & ALIGNED:
        return Form(look) if look else None
    parts = address_of(instruction, memory_operand(instruction))
    base, scaled = number_of(parts.base), number_of(parts.scaled)
    scale = parts.scale if scaled >= 0 else 0
    return Form(look, base, scaled, scale, parts.segment, parts.displacement % ALIGNMENT)
