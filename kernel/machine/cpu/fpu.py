"""The x87, MMX and SSE registers, as the CPU holds them or as FXSAVE has written them.

    >>> machine.fpu.st[0], hex(machine.fpu.xmm[3])
    (3.141592653589793, '0x7f')

`live_fpu` reads those that the CPU holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ldexp

from callgate.kernel.abi.fpu import FloatingPointArea

REGISTERS = 8
STACK_BYTES, STACK_SPAN = 10, 16  # of ST(i) in a FloatingPointArea
XMM_BYTES = 16
MANTISSA = (1 << 64) - 1
EXPONENT_BIAS = 16383 + 63  # of 80-bit numbers, the mantissa taken as an integer
EXPONENT_LIMIT = 0x7FFF
SIGN = 1 << 79


@dataclass(frozen=True, slots=True)
class FloatingPoint:
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
