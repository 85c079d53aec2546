"""The registers that are wider than 32 bits, and their control words, in cases and in `call`.

ST(0) to ST(7) are numbers (`st0 = 1.5`) or, with 20 hexadecimal digits, the 80 bits as they are; XMM and MM are whole
numbers or lanes, the lowest first: `xmm0 = float(1, 2)`, `mm1 = word(1, 2, 3, 4)`.
"""

from __future__ import annotations

import ctypes
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from struct import pack, unpack
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.fpu import FPU_CONTROL_INITIAL, MXCSR_INITIAL
from callgate.kernel.machine.cpu.fpu import FloatingPoint, number
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine

BITS: Final = {
    **{f"xmm{index}": 128 for index in range(8)},
    **{f"st{index}": 80 for index in range(8)},
    **{f"mm{index}": 64 for index in range(8)},
    "mxcsr": 32,
    "fcw": 16,
    "fsw": 16,
}
SETTABLE: Final = tuple(name for name in BITS if name != "fsw")
LANES: Final = {"byte": 8, "word": 16, "dword": 32, "qword": 64, "float": 32, "double": 64}
LANE = re.compile(rf"({'|'.join(LANES)})\s*\((.*)\)$", re.DOTALL)
RAW_ST = re.compile(r"0[xX][0-9a-fA-F]{20}$")
DECIMAL = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|inf|nan)$")
EMPTY_TAGS, MMX_EXPONENT = 0xFFFF, 0xFFFF
IDS: Final = {
    **{f"xmm{index}": x86.UC_X86_REG_XMM0 + index for index in range(8)},
    **{f"st{index}": x86.UC_X86_REG_ST0 + index for index in range(8)},
    "mxcsr": x86.UC_X86_REG_MXCSR,
    "fcw": x86.UC_X86_REG_FPCW,
    "fsw": x86.UC_X86_REG_FPSW,
    "tags": x86.UC_X86_REG_FPTAG,
}
COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
EXPONENT_BIAS, MANTISSA_BITS, LARGEST = 16383, 64, 0x7FFF


@dataclass(frozen=True, slots=True)
class Wide:
    """A value: `lanes` of `bits` each, or one of the register's own width; floats stay floats."""

    lanes: tuple[int | float, ...]
    bits: int

    def raw(self) -> int:
        """Return the bits, lanes that are not given zero."""
        return sum(lane_bits(lane, self.bits) << index * self.bits for index, lane in enumerate(self.lanes))


def lane_bits(lane: float, bits: int) -> int:
    """Return a lane as a number of `bits` bits."""
    if isinstance(lane, int):
        return lane & (1 << bits) - 1
    if not isinstance(lane, float):
        raise ValueError(f"{lane!r} is not a number")  # noqa: TRY004 - as other mistakes
    if bits == BITS["st0"]:
        return extended(lane)
    return int.from_bytes(pack("<f" if bits == 32 else "<d", lane), "little")


def extended(value: float) -> int:
    """Return a number as the x87's 80 bits (SDM vol. 1, 4.2.2)."""
    sign = (1 << 79) if math.copysign(1.0, value) < 0 else 0
    if math.isnan(value):
        return sign | LARGEST << 64 | 3 << 62
    if math.isinf(value):
        return sign | LARGEST << 64 | 1 << 63
    if value == 0:
        return sign
    mantissa, exponent = math.frexp(abs(value))
    return sign | exponent + EXPONENT_BIAS - 1 << 64 | int(math.ldexp(mantissa, MANTISSA_BITS))


def parse(text: str, name: str, evaluate: Callable[[str], int]) -> Wide:
    """Return the value that is written for a register; ValueError names a part that does not fit."""
    width = BITS[name]
    match = LANE.match(text)
    if match and width in (64, 128):
        kind, bits = match[1], LANES[match[1]]
        items = [item.strip() for item in match[2].split(",")]
        if len(items) * bits > width:
            raise ValueError(f"{name} has room for {width // bits} of {kind}, not for {len(items)}")
        if kind in ("float", "double"):
            return Wide(tuple(_float(item, evaluate, bits) for item in items), bits)
        return Wide(tuple(_fitting(evaluate(item), bits, item) for item in items), bits)
    if width == BITS["st0"]:
        return Wide((int(text, 16),) if RAW_ST.match(text) else (_float(text, evaluate, width),), width)
    return Wide((_fitting(evaluate(text), width, text),), width)


def _float(text: str, evaluate: Callable[[str], int], bits: int) -> float:
    value = float(text) if DECIMAL.match(text) else float(evaluate(text))
    if bits == LANES["float"]:
        try:
            return float(unpack("<f", pack("<f", value))[0])
        except OverflowError:
            raise ValueError(f"{text} is too large for a float") from None
    return value


def _fitting(value: int, bits: int, text: str) -> int:
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise ValueError(f"{text} does not fit into {bits} bits")
    return value & (1 << bits) - 1


def wrong(fpu: FloatingPoint, name: str, relation: str, wanted: Wide, text: str) -> str | None:
    """Return why `name relation text` does not hold, None if it does; each lane that is named must."""
    raw = raw_of(fpu, name)
    if name.startswith("st"):
        if not fpu.used(int(name[2:])):
            return f"{name} is empty, expected {relation} {text}"
        lane = wanted.lanes[0]
        if isinstance(lane, int):
            return None if COMPARE[relation](raw, lane) else f"{name} is {raw:#022x}, expected {relation} {text}"
        return None if _holds(relation, number(raw), lane) else f"{name} is {number(raw)!r}, expected {relation} {text}"
    found = tuple(_lane(raw, index, wanted) for index in range(len(wanted.lanes)))
    pairs = [_holds(relation, *pair) for pair in zip(found, wanted.lanes, strict=True)]
    if any(pairs) if relation == "!=" else all(pairs):
        return None
    if len(found) == 1 and wanted.bits == BITS[name]:
        shown = f"{raw:#x}"
    else:
        shown = f"({', '.join(repr(item) if isinstance(item, float) else f'{item:#x}' for item in found)})"
    return f"{name} is {shown}, expected {relation} {text}"


def _lane(raw: int, index: int, wanted: Wide) -> int | float:
    bits = raw >> index * wanted.bits & (1 << wanted.bits) - 1
    if isinstance(wanted.lanes[index], int):
        return bits
    return float(unpack("<f" if wanted.bits == 32 else "<d", bits.to_bytes(wanted.bits // 8, "little"))[0])


def _holds(relation: str, found: float, wanted: float) -> bool:
    if isinstance(wanted, float) and math.isnan(wanted):
        return math.isnan(found) == (relation == "=")
    return COMPARE[relation](found, wanted)


def raw_of(fpu: FloatingPoint, name: str) -> int:
    """Return a register's bits."""
    if name.startswith("xmm"):
        return fpu.xmm[int(name[3:])]
    if name.startswith("mm"):
        return fpu.mm[int(name[2:])]
    if name.startswith("st"):
        return fpu.raw[int(name[2:])]
    return {"mxcsr": fpu.mxcsr, "fcw": fpu.control, "fsw": fpu.status}[name]


def value_of(fpu: FloatingPoint, name: str) -> int | float:
    """Return a register as Python has it: ST(i) a float, others numbers."""
    return fpu.st[int(name[2:])] if name.startswith("st") else raw_of(fpu, name)


def clear(machine: Machine) -> None:
    """Leave the x87 as FNINIT does, and MXCSR as after reset."""
    machine.filters.floating.gather()  # earlier exceptions are not to appear afterwards
    handle = machine.handle
    for name, value, size in (
        ("fcw", FPU_CONTROL_INITIAL, 2), ("fsw", 0, 2), ("tags", EMPTY_TAGS, 2), ("mxcsr", MXCSR_INITIAL, 4),
    ):  # fmt: skip
        _put(handle, IDS[name], value, size)


def write(machine: Machine, name: str, raw: int) -> None:
    """Set a register; ST(i) and MM(i) become in use."""
    machine.filters.floating.gather()
    handle = machine.handle
    if name.startswith(("st", "mm")):
        top = _get(handle, IDS["fsw"], 2) >> 11 & 7
        mmx = name.startswith("mm")
        index = int(name[2:]) - (top if mmx else 0) & 7
        tags = _get(handle, IDS["tags"], 2) & ~(3 << 2 * (index + top & 7))
        _put(handle, IDS[f"st{index}"], raw | (MMX_EXPONENT << 64 if mmx else 0), 10)
        _put(handle, IDS["tags"], tags, 2)
        return
    _put(handle, IDS[name], raw, BITS[name] // 8)


def _put(handle: Any, register: int, value: int, size: int) -> None:
    buffer = ctypes.create_string_buffer(value.to_bytes(size, "little"), 16)
    status = uclib.uc_reg_write(handle, register, buffer)
    if status:
        raise RuntimeError(f"the engine does not take register {register}: error {status}")


def _get(handle: Any, register: int, size: int) -> int:
    buffer = ctypes.create_string_buffer(16)
    uclib.uc_reg_read(handle, register, buffer)
    return int.from_bytes(buffer.raw[:size], "little")
