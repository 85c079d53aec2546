"""Instructions that are encoded here, because Keystone 0.9.2 gets them wrong or does not know them.

Opcodes are those of the Intel SDM vol. 2; docs/assembler.md lists the reasons.  The tests compare every
entry with GNU as and with Capstone.
"""

from collections.abc import Callable, Sequence

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.operands import FarPointer, Immediate, Memory, Operand, Register
from callgate.asm.assembler.language.registers import GENERAL, NUMBERS, SEGMENTS

# Without operands: 16-bit forms that Keystone gives the plain names (iret, pushf, popf), or unknown to Keystone.
PLAIN = {
    "pushad": "60", "popad": "61", "pushfd": "9c", "popfd": "9d", "iretd": "cf", "pushaw": "6660",
    "popaw": "6661", "pushfw": "669c", "popfw": "669d", "iretw": "66cf", "ret": "c3", "retf": "cb",
    "int1": "f1", "int3": "cc", "ud2": "0f0b", "endbr32": "f30f1efb", "salc": "d6", "wait": "9b",
    "monitor": "0f01c8", "mwait": "0f01c9", "rdtscp": "0f01f9",
}  # fmt: skip
PUSH_SEGMENT = {"es": "06", "cs": "0e", "ss": "16", "ds": "1e", "fs": "0fa0", "gs": "0fa8"}
POP_SEGMENT = {"es": "07", "ss": "17", "ds": "1f", "fs": "0fa1", "gs": "0fa9"}
# SGDT and the like: /digit of 0F 01.  Keystone's forms have a 0x66 prefix, which cuts the base to 24 bits.
TABLE_REGISTERS = {"sgdt": 0, "sidt": 1, "lgdt": 2, "lidt": 3}
SYSTEM_SELECTORS = {"sldt": (0x00, 0), "str": (0x00, 1), "lldt": (0x00, 2), "ltr": (0x00, 3), "verr": (0x00, 4),
                    "verw": (0x00, 5), "smsw": (0x01, 4), "lmsw": (0x01, 6)}  # fmt: skip
STORES = frozenset(("sldt", "str", "smsw"))
FAR_BRANCHES = {"jmp": (0xEA, 5), "call": (0x9A, 3)}
UNDEFINED = {"ud0": 0xFF, "ud1": 0xB9}
RIGHTS = {"lar": 0x02, "lsl": 0x03}
RETURNS = {"ret": 0xC2, "retf": 0xCA}


def modrm(reg: int, memory: Memory) -> bytes:
    """Return ModRM, SIB and displacement of a memory operand (SDM vol. 2, 2.1.5), without prefixes."""
    full = (memory.displacement & 0xFFFF_FFFF).to_bytes(4, "little")
    if not memory.base and not memory.index:
        return bytes([reg << 3 | 5]) + full
    if not memory.base:
        return bytes([reg << 3 | 4, sib(memory, 5)]) + full
    base = NUMBERS[memory.base]
    if not -128 <= memory.displacement < 128:
        mode, tail = 2, full
    elif memory.displacement == 0 and base != 5:
        mode, tail = 0, b""
    else:
        mode, tail = 1, bytes([memory.displacement & 0xFF])
    if memory.index or base == 4:
        return bytes([mode << 6 | reg << 3 | 4, sib(memory, base)]) + tail
    return bytes([mode << 6 | reg << 3 | base]) + tail


def sib(memory: Memory, base: int) -> int:
    """Return the SIB byte."""
    index = NUMBERS[memory.index] if memory.index else 4
    return {1: 0, 2: 1, 4: 2, 8: 3}[memory.scale] << 6 | index << 3 | base


def encode_gap(mnemonic: str, operands: Sequence[Operand], place: Place) -> bytes | None:
    """Return the bytes of an instruction of this table without segment prefix; None if it is not in it."""
    if not operands:
        code = PLAIN.get(mnemonic)
        return bytes.fromhex(code) if code else None
    entry = FORMS.get(mnemonic)
    return entry(mnemonic, operands, place) if entry else None


def encode_stack(mnemonic: str, operands: Sequence[Operand], place: Place) -> bytes | None:
    """Encode `push` of a number and of a segment register: always four bytes of stack."""
    operand = operands[0]
    if len(operands) != 1:
        return None
    if isinstance(operand, Immediate) and mnemonic == "push":
        if -128 <= operand.value < 128:
            return bytes([0x6A, operand.value & 0xFF])
        return b"\x68" + (operand.value & 0xFFFF_FFFF).to_bytes(4, "little")
    if isinstance(operand, Register) and operand.name in SEGMENTS:
        table = PUSH_SEGMENT if mnemonic == "push" else POP_SEGMENT
        if operand.name not in table:
            raise AsmError(place, "cs cannot be popped", "use retf")
        return bytes.fromhex(table[operand.name])
    return None


def encode_branch(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode far branches: selector:offset, and through a pointer in memory."""
    operand = operands[0]
    direct, digit = FAR_BRANCHES[mnemonic]
    if len(operands) == 1 and isinstance(operand, FarPointer):
        return bytes([direct]) + operand.offset.to_bytes(4, "little") + operand.selector.to_bytes(2, "little")
    if len(operands) == 1 and isinstance(operand, Memory) and operand.far:
        return b"\xff" + modrm(digit, operand)
    return None


def encode_table_register(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode LGDT, LIDT, SGDT and SIDT with their 32-bit base."""
    if len(operands) == 1 and isinstance(operands[0], Memory):
        return b"\x0f\x01" + modrm(TABLE_REGISTERS[mnemonic], operands[0])
    return None


def encode_selector(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode LLDT and its family: a 0x66 prefix only where a 16-bit register is written."""
    operand = operands[0]
    second, digit = SYSTEM_SELECTORS[mnemonic]
    if len(operands) != 1:
        return None
    if isinstance(operand, Memory) and operand.bits == 16:
        return bytes([0x0F, second]) + modrm(digit, operand)
    if isinstance(operand, Register) and operand.name in GENERAL and operand.bits >= 16:
        if operand.bits == 32 and mnemonic not in STORES:
            return None
        prefix = b"\x66" if operand.bits == 16 and mnemonic in STORES else b""
        return prefix + bytes([0x0F, second, 0xC0 | digit << 3 | NUMBERS[operand.name]])
    return None


def encode_move(_mnemonic: str, operands: Sequence[Operand], place: Place) -> bytes | None:
    """Encode MOV to and from segment registers; only a 16-bit general target needs a 0x66 prefix."""
    if len(operands) != 2:
        return None
    target, source = operands
    if isinstance(target, Register) and target.name in SEGMENTS:
        if target.name == "cs":
            raise AsmError(place, "cs cannot be written by mov (#UD)", "use a far jump or return")
        reg, other, opcode = NUMBERS[target.name], source, 0x8E
    elif isinstance(source, Register) and source.name in SEGMENTS:
        reg, other, opcode = NUMBERS[source.name], target, 0x8C
    else:
        return None
    if isinstance(other, Memory) and other.bits == 16:
        return bytes([opcode]) + modrm(reg, other)
    if isinstance(other, Register) and other.name in GENERAL and other.bits >= 16:
        prefix = b"\x66" if other.bits == 16 and opcode == 0x8C else b""
        return prefix + bytes([opcode, 0xC0 | reg << 3 | NUMBERS[other.name]])
    return None


def encode_nop(_mnemonic: str, operands: Sequence[Operand], place: Place) -> bytes | None:
    """Encode the multi-byte NOP, which Keystone takes for a prefetch."""
    operand = operands[0]
    if len(operands) != 1 or not isinstance(operand, Memory | Register):
        raise AsmError(place, "nop takes nothing, or one operand of 16 or 32 bits", "write nop, or nop dword ptr [eax]")
    if isinstance(operand, Register):
        if operand.name not in GENERAL or operand.bits < 16:
            return None
        tail = bytes([0xC0 | NUMBERS[operand.name]])
    else:
        tail = modrm(0, operand)
    return (b"\x66" if operand.bits == 16 else b"") + b"\x0f\x1f" + tail


def encode_number(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode `int n`, `ret n` and `retf n`."""
    operand = operands[0]
    if len(operands) != 1 or not isinstance(operand, Immediate):
        return None
    if mnemonic == "int":
        return b"\xcc" if operand.value == 3 else bytes([0xCD, operand.value])
    return bytes([RETURNS[mnemonic]]) + operand.value.to_bytes(2, "little")


def encode_undefined(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode UD0 and UD1, which have a ModRM byte and raise #UD."""
    match operands:
        case [Register() as target, Register() | Memory() as source] if target.name in GENERAL and target.bits >= 16:
            if source.bits != target.bits or (isinstance(source, Register) and source.name not in GENERAL):
                return None
            tail = (
                modrm_register(target, source) if isinstance(source, Register) else modrm(NUMBERS[target.name], source)
            )
            prefix = b"\x66" if target.bits == 16 else b""
            return prefix + bytes([0x0F, UNDEFINED[mnemonic]]) + tail
    return None


def modrm_register(target: Register, source: Register) -> bytes:
    """Return ModRM of two general registers."""
    return bytes([0xC0 | NUMBERS[target.name] << 3 | NUMBERS[source.name]])


def encode_rights(mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode LAR and LSL: of a 32-bit source only 16 bits are read, so memory has 16."""
    match operands:
        case [Register() as target, Register() | Memory() as source] if target.name in GENERAL and target.bits >= 16:
            if isinstance(source, Register) and (source.name not in GENERAL or source.bits < 16):
                return None
            if isinstance(source, Register) and target.bits == 16 and source.bits == 32:
                return None
            tail = (
                modrm_register(target, source) if isinstance(source, Register) else modrm(NUMBERS[target.name], source)
            )
            return (b"\x66" if target.bits == 16 else b"") + bytes([0x0F, RIGHTS[mnemonic]]) + tail
    return None


def encode_free(_mnemonic: str, operands: Sequence[Operand], _place: Place) -> bytes | None:
    """Encode FFREEP."""
    match operands:
        case [Register(bits=80) as register]:
            return bytes([0xDF, 0xC0 | int(register.name[3])])
    return None


Encoder = Callable[[str, Sequence[Operand], Place], bytes | None]
FORMS: dict[str, Encoder] = {
    "push": encode_stack,
    "pop": encode_stack,
    "mov": encode_move,
    "nop": encode_nop,
    "int": encode_number,
    "ffreep": encode_free,
    **dict.fromkeys(RIGHTS, encode_rights),
    **dict.fromkeys(UNDEFINED, encode_undefined),
    **dict.fromkeys(RETURNS, encode_number),
    **dict.fromkeys(FAR_BRANCHES, encode_branch),
    **dict.fromkeys(TABLE_REGISTERS, encode_table_register),
    **dict.fromkeys(SYSTEM_SELECTORS, encode_selector),
}
