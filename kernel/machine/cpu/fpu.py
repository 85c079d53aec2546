"""The x87, MMX and SSE registers, as the CPU holds them or as FXSAVE has written them.

    >>> machine.fpu.st[0], hex(machine.fpu.xmm[3])
    (3.141592653589793, '0x7f')

`live_fpu` reads those that the CPU holds.
"""

from __future__ import annotations

from math import ldexp
from typing import Final, NamedTuple

from callgate.kernel.abi.fpu import MXCSR_MASK, FloatingPointArea

REGISTERS = 8
STACK_BYTES, STACK_SPAN = 10, 16  # of ST(i) in a FloatingPointArea
XMM_BYTES = 16
MANTISSA = (1 << 64) - 1
EXPONENT_BIAS = 16383 + 63  # of 80-bit numbers, the mantissa taken as an integer
EXPONENT_LIMIT = 0x7FFF
SIGN = 1 << 79
INTEGER = 1 << 63  # the bit of an 80-bit number before the point
VALID, ZERO, SPECIAL, EMPTY = range(4)  # tags in the two-bit form (SDM vol. 1, 8.1.7)
EXCEPTIONS: Final = 0x3F  # of the status word, and their masks in the control word
SUMMARY: Final = 0x8080  # ES and B of the status word
FLOATING: Final = (
    *(f"st{index}" for index in range(REGISTERS)), "fctrl", "fstat", "ftag",
    *(f"xmm{index}" for index in range(REGISTERS)), "mxcsr",
)  # fmt: skip
"""The registers that can be changed by hand, as gdb names them."""


class FloatingPoint(NamedTuple):
    """Every register at one moment; all values as the CPU keeps them."""

    control: int  # FCW
    status: int  # FSW
    tags: int  # bit i: R_i is in use (FXSAVE's form)
    mxcsr: int
    raw: tuple[int, ...]  # ST(0) to ST(7), 80 bits each
    xmm: tuple[int, ...]  # XMM0 to XMM7, 128 bits each

    @property
    def top(self) -> int:
        """Which of R0 to R7 is ST(0)."""
        return self.status >> 11 & 7

    @property
    def st(self) -> tuple[float, ...]:
        """ST(0) to ST(7) as Python's floats, which round them to 53 bits."""
        return tuple(number(value) for value in self.raw)

    @property
    def mm(self) -> tuple[int, ...]:
        """MM0 to MM7, which are the mantissas of R0 to R7."""
        return tuple(self.raw[index - self.top & 7] & MANTISSA for index in range(REGISTERS))

    @property
    def tag_word(self) -> int:
        """The tags of R0 to R7 in the two-bit form, as FNSTENV stores them."""
        return sum(self._tag(index) << 2 * index for index in range(REGISTERS))

    def _tag(self, index: int) -> int:
        """Return the tag of R_index."""
        if not self.tags >> index & 1:
            return EMPTY
        value = self.raw[index - self.top & 7]
        exponent = value >> 64 & EXPONENT_LIMIT
        if not exponent and not value & MANTISSA:
            return ZERO
        return VALID if 0 < exponent < EXPONENT_LIMIT and value & INTEGER else SPECIAL

    def used(self, index: int) -> bool:
        """Whether ST(index) is in use."""
        return bool(self.tags >> (index + self.top & 7) & 1)

    def describe(self) -> list[str]:
        """Return lines: the control words, then the registers that are not empty or zero."""
        lines = [f"fcw={self.control:04x} fsw={self.status:04x} ftw={self.tags:02x} mxcsr={self.mxcsr:08x}"]
        lines += [f"st{i}={self.raw[i]:020x} ({self.st[i]!r})" for i in range(REGISTERS) if self.used(i)]
        return lines + [f"xmm{i}={self.xmm[i]:032x}" for i in range(REGISTERS) if self.xmm[i]]

    def __repr__(self) -> str:
        return f"<fpu {', '.join(self.describe())}>"


def number(value: int) -> float:
    """Return an 80-bit number as a float; a number too large is infinite, and one that is not a number NaN."""
    mantissa, exponent = value & MANTISSA, value >> 64 & EXPONENT_LIMIT
    sign = -1.0 if value & SIGN else 1.0
    if exponent == EXPONENT_LIMIT:
        return sign * float("inf") if not mantissa << 1 & MANTISSA else float("nan")
    try:
        return sign * ldexp(mantissa, max(exponent, 1) - EXPONENT_BIAS)
    except OverflowError:
        return sign * float("inf")


def from_area(data: bytes) -> FloatingPoint:
    """Return what a FloatingPointArea holds."""
    area = FloatingPointArea.from_buffer_copy(data)
    stack, xmm = bytes(area.stack), bytes(area.xmm)
    raw = (stack[at : at + STACK_BYTES] for at in range(0, len(stack), STACK_SPAN))
    wide = (xmm[at : at + XMM_BYTES] for at in range(0, len(xmm), XMM_BYTES))
    return FloatingPoint(
        area.control, area.status, area.tags, area.mxcsr,
        tuple(int.from_bytes(item, "little") for item in raw),
        tuple(int.from_bytes(item, "little") for item in wide),
    )  # fmt: skip


def changed(fpu: FloatingPoint, name: str, value: int) -> FloatingPoint:
    """Return the registers with one of FLOATING changed, all others as they are seen; ValueError for a refused value.

    As by FXRSTOR: another TOP in `fstat` leaves ST(0) to ST(7) what they are, and ES and B follow from the exceptions
    that are not masked.  `ftag` says which of R0 to R7 are empty; whether one is zero follows from its value.
    """
    size = 80 if name.startswith("st") else 128 if name.startswith("xmm") else 32 if name == "mxcsr" else 16
    if value >> size:
        raise ValueError(f"{name}: {value:#x} has more than {size} bits")
    if name == "mxcsr":
        if value & ~MXCSR_MASK:
            raise ValueError(f"mxcsr: bits {value & ~MXCSR_MASK:#x} are reserved: #GP")
        return fpu._replace(mxcsr=value)
    if name == "ftag":
        used = (index for index in range(REGISTERS) if value >> 2 * index & EMPTY != EMPTY)
        return fpu._replace(tags=sum(1 << index for index in used))
    if name in ("fctrl", "fstat"):
        control, status = (value, fpu.status) if name == "fctrl" else (fpu.control, value)
        pending = status & ~control & EXCEPTIONS
        return fpu._replace(control=control, status=status & ~SUMMARY | (SUMMARY if pending else 0))
    if name.startswith("st"):
        return fpu._replace(raw=_with(fpu.raw, int(name[2:]), value))
    return fpu._replace(xmm=_with(fpu.xmm, int(name[3:]), value))


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


def to_area(fpu: FloatingPoint, data: bytes) -> bytes:
    """Return a FloatingPointArea with these registers; what else is in `data`, an area, stays."""
    area = FloatingPointArea.from_buffer_copy(data)
    area.control, area.status, area.tags, area.mxcsr = fpu.control, fpu.status, fpu.tags, fpu.mxcsr
    for index in range(REGISTERS):
        at = index * STACK_SPAN
        area.stack[at : at + STACK_BYTES] = fpu.raw[index].to_bytes(STACK_BYTES, "little")
        area.xmm[index * XMM_BYTES : (index + 1) * XMM_BYTES] = fpu.xmm[index].to_bytes(XMM_BYTES, "little")
    return bytes(area)
