"""Instructions of a block that have to be looked at when they execute: found in its bytes alone."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from callgate.kernel.machine.cpu.translations import after_zeros, answers
from callgate.kernel.machine.cpu.translations import decoder as plain_decoder
from callgate.kernel.machine.engine.sites import ALWAYS, DIVIDES, LAST_TURN
from callgate.kernel.machine.filters.divisions import SUSPICIOUS as DIVISIONS
from callgate.kernel.machine.filters.divisions import is_division
from callgate.kernel.machine.filters.far import LONGEST, PREFIXES, anywhere, starts
from callgate.kernel.machine.filters.simd import SUSPICIOUS as FLOATING
from callgate.kernel.machine.filters.simd import Form, form_of
from callgate.kernel.machine.filters.vectors import SUSPICIOUS as VECTORS
from callgate.kernel.machine.filters.vectors import is_vector, mxcsr_offset

SUSPICIOUS: Final = re.compile(rb"\x0f[\x23\x00\xc7]|\xf0|[\xe0\xe1]|" + VECTORS.pattern + rb"|" + FLOATING.pattern)
SUSPICIOUS_OF_USER: Final = re.compile(rb"[\x6c\x6d]|" + DIVISIONS.pattern + rb"|" + SUSPICIOUS.pattern)  # INS, IDIV
LOCK: Final = 0xF0
AT_ONCE: Final = 32  # instructions decoded in one call
PIECE: Final = AT_ONCE * LONGEST
REMEMBERED: Final = 512  # bytes of the longest code whose places are remembered
LOOK, DIVISION, LOOP = Form(ALWAYS), Form(DIVIDES), Form(LAST_TURN)
LOOPS: Final = ("loope", "loopne")
REPEATS: Final = {0xF2, 0xF3}  # REPNE; REP, REPE
STRING_OPCODES: Final = {bytes([opcode]) for opcode in (*range(0x6C, 0x70), *range(0xA4, 0xA8), *range(0xAA, 0xB0))}
WHOLE_VEX: Final = 4  # bytes of a prefix and an opcode
MEMORY_OPERAND: Final = 3  # CS_OP_MEM


@cache
def decoder() -> Any:
    """Return a 32-bit decoder with operand details."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    made = Cs(CS_ARCH_X86, CS_MODE_32)
    made.detail = True
    return made


@lru_cache(maxsize=1024)
def decode(code: bytes) -> Any:
    """Return the first instruction of `code` as if at address 0; None if it is not an instruction."""
    return next(decoder().disasm(code, 0, 1), None)


class Places(NamedTuple):
    """Offsets in a block's code: where a far transfer may begin that ends it, and what else is watched, and how."""

    far: tuple[int, ...]
    others: tuple[tuple[int, Form], ...]


@lru_cache(maxsize=8192)
def places(code: bytes, decoded: int, *, user: bool) -> Places | None:
    """Return where in a block's code something is to be watched; None if nowhere.

    Machines execute the same code again and again, each after it has been restored or booted.
    """
    far: tuple[int, ...] = ()
    others: list[tuple[int, Form]] = []
    if user:
        far = tuple(starts(code))
        others += [(decoded + offset, LOOK) for offset in anywhere(code[decoded:])]
    if (SUSPICIOUS_OF_USER if user else SUSPICIOUS).search(code):
        others += suspects(code, user=user)
    return Places(far, tuple(others)) if far or others else None


def suspects(code: bytes, *, user: bool) -> tuple[tuple[int, Form], ...]:
    """Return where in a block's code an instruction is to be checked when it executes, and how."""
    known = answers.ask("suspects", code, user, lambda: _suspects(code, user=user))
    return tuple((offset, Form(*form)) for offset, form in known)


def _suspects(code: bytes, *, user: bool) -> list[tuple[int, Form]]:
    found = []
    offset = 0
    while offset < len(code):
        offset = before = after_zeros(code, offset, len(code))
        for at, size, mnemonic, operands in plain_decoder().disasm_lite(code[offset : offset + PIECE], offset, AT_ONCE):
            text = code[at : at + size]
            form = suspect(text, user=user) if perhaps(mnemonic, operands, text) else None
            if form is not None:
                found.append((at, form))
            offset = at + size
        # The decoder stops at what is not an instruction: a LOCK that is not allowed, for one.
        if offset == before < len(code):
            rest = code[offset:].ljust(WHOLE_VEX, b"\0")  # the engine may have refused it before it saw its opcode
            if locked(rest) or is_vector(rest):
                found.append((offset, LOOK))
            offset += 1
    return found


def suspect(code: bytes, *, user: bool) -> Form | None:
    """Return how an instruction is to be checked when it executes, None if it need not be."""
    instruction = decode(code)
    if instruction is None:
        return None
    if instruction.mnemonic in LOOPS:
        return LOOP
    if suspicious(instruction) or (user and asks_first(instruction)):
        return DIVISION if is_division(code) else LOOK
    return form_of(instruction)


def perhaps(mnemonic: str, operands: str, code: bytes) -> bool:
    """Whether an instruction may be suspicious; details of all the others would take most of the time."""
    if mnemonic.startswith(("lock", "ins", "rep", "rd", "ltr", "ldmxcsr", "fxrstor", "idiv", "loope", "loopne")):
        return True
    return operands.startswith("dr7") or is_vector(code) or bool(FLOATING.match(code.lstrip(PREFIXES)))


def repeats(code: bytes) -> bool:
    """Whether code begins with a string instruction that has REP, REPE or REPNE."""
    body = code.lstrip(PREFIXES)
    return body[:1] in STRING_OPCODES and bool(REPEATS.intersection(code[: len(code) - len(body)]))


def inputs_string(instruction: Any) -> bool:
    """Whether this is INS: an opcode, not an operand that happens to be its byte (`jne +6Dh`)."""
    return str(instruction.mnemonic).rpartition(" ")[2] in ("insb", "insw", "insd")


def asks_first(instruction: Any) -> bool:
    """Whether what user code does here depends on a port, memory or registers: INS, a load of MXCSR, IDIV."""
    return inputs_string(instruction) or mxcsr_offset(instruction) is not None or is_division(bytes(instruction.bytes))


def suspicious(instruction: Any) -> bool:
    """Whether a decoded instruction is one of those of this module."""
    if is_vector(bytes(instruction.bytes)) or instruction.mnemonic in ("rdrand", "rdseed", "ltr"):
        return True
    return writes_dr7(instruction) or misplaced_lock(instruction)


def misplaced_lock(instruction: Any) -> bool:
    """Whether LOCK stands before a register destination, which the decoder accepts and a CPU does not."""
    if instruction.prefix[0] != LOCK:
        return False
    operands = instruction.operands
    exchange = instruction.mnemonic.endswith("xchg")
    return not any(operand.type == MEMORY_OPERAND for operand in (operands if exchange else operands[:1]))


def writes_dr7(instruction: Any) -> bool:
    """Whether an instruction is `mov dr7, r`."""
    return bool(instruction.mnemonic == "mov" and instruction.op_str.startswith("dr7"))


def locked(code: bytes) -> bool:
    """Whether LOCK is among the prefixes of the first instruction."""
    prefixes = code[: len(code) - len(code.lstrip(PREFIXES))]
    return LOCK in prefixes
