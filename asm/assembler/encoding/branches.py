"""Branches to a label: short as long as that reaches, then near for good (Intel SDM vol. 2, JMP, Jcc, CALL)."""

from functools import lru_cache

from callgate.asm.assembler.encoding.verify import decoder
from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import ALIASES, JUMPS, SHORT_BRANCHES

SHORT_LIMIT = 128


def opcode(mnemonic: str, *, near: bool) -> bytes:
    """Return the bytes in front of the offset."""
    if mnemonic in SHORT_BRANCHES:
        return (b"\x67" if mnemonic == "jcxz" else b"") + bytes([SHORT_BRANCHES[mnemonic]])
    if mnemonic == "call":
        return b"\xe8"
    if mnemonic == "jmp":
        return b"\xe9" if near else b"\xeb"
    return bytes([0x0F, 0x80 | JUMPS[mnemonic]]) if near else bytes([0x70 | JUMPS[mnemonic]])


def always_near(mnemonic: str, distance: str) -> bool:
    """Whether a branch has, or is to have, no short form."""
    return mnemonic == "call" or (distance == "near" and mnemonic not in SHORT_BRANCHES)


def may_grow(mnemonic: str, distance: str) -> bool:
    """Whether a branch has a near form that may replace the short one."""
    return mnemonic not in SHORT_BRANCHES and distance != "short"


def offset_of(mnemonic: str, address: int, target: int, *, near: bool) -> int:
    """Return what the instruction adds to the address after it."""
    return target - (address + len(opcode(mnemonic, near=near)) + (4 if near else 1))


def encode_branch(mnemonic: str, offset: int, *, near: bool) -> bytes:
    """Return the instruction; an offset that does not fit is cut."""
    width = 4 if near else 1
    return opcode(mnemonic, near=near) + (offset & (1 << 8 * width) - 1).to_bytes(width, "little")


def checked_branch(mnemonic: str, offset: int, distance: str, place: Place, *, near: bool) -> bytes:
    """Return the instruction, compared with what Capstone reads; AsmError if it does not reach."""
    if not near and not -SHORT_LIMIT <= offset < SHORT_LIMIT:
        word = f"{mnemonic} short" if distance == "short" else mnemonic
        hint = "write it without short" if distance == "short" else "jump around a near jmp"
        raise AsmError(place, f"{word} reaches {SHORT_LIMIT} bytes, the target is {offset} away", hint)
    code = encode_branch(mnemonic, offset, near=near)
    problem = verify_branch(code, ALIASES.get(mnemonic, mnemonic))
    if problem:
        raise AsmError(place, f"{mnemonic} would be encoded wrongly as {code.hex(' ')}: {problem}")
    return code


@lru_cache(maxsize=8192)
def verify_branch(code: bytes, mnemonic: str) -> str | None:
    """Return how a branch, disassembled at address 0, differs from what it should be."""
    decoded = next(iter(decoder().disasm(code, 0, 1)), None)
    if decoded is None or decoded.size != len(code):
        return "it is not one instruction"
    if decoded.mnemonic != mnemonic:
        return f"that is {decoded.mnemonic}"
    width = 1 if len(code) <= 3 else 4
    wanted = len(code) + int.from_bytes(code[-width:], "little", signed=True)
    target = decoded.operands[0].imm
    return None if (target - wanted) & 0xFFFF_FFFF == 0 else f"the target is {target:#x} instead of {wanted:#x}"
