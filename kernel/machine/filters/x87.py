"""The demands of x87 instructions on the register stack (Intel SDM vol. 1, 8.5.1.1; vol. 2, each instruction's #IS).

An instruction that uses an empty register, or loads into one that is in use, is a stack fault: IE and SF are set, and
C1 says which of the two.  If IE is masked, the result is the indefinite.  The engine takes what the register happens to
hold.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

INDEFINITE: Final = 0xFFFF_C000000000000000  # of 80-bit numbers
BCD_INDEFINITE: Final = bytes(7) + b"\xc0\xff\xff"
BCD_LIMIT: Final = 10**18
PUSHED: Final = 1 << 7  # ST(7), which becomes ST(0)
REGISTER_FORM: Final = 0xC0
NEVER_WAIT: Final = frozenset({0xD9_30, 0xD9_38, 0xDD_30, 0xDD_38})  # FNSTENV, FNSTCW, FNSAVE, FNSTSW in memory
NO_STACK_IN_MEMORY: Final = frozenset({0xD9_20, 0xD9_28, 0xDD_20, 0xD9_08, 0xDD_28, 0xDB_20, 0xDB_30})
LOADS: Final = frozenset({0xD9_00, 0xDB_00, 0xDB_28, 0xDD_00, 0xDF_00, 0xDF_20, 0xDF_28})
FBSTP: Final = 0xDF_30
TWO_OF_D9: Final = frozenset({0xF1, 0xF3, 0xF5, 0xF8, 0xF9, 0xFD})  # FYL2X, FPATAN, FPREM1, FPREM, FYL2XP1, FSCALE
POPPING: Final = frozenset({0xF1, 0xF3, 0xF9})  # the result is in ST(1), which becomes ST(0)
ONE_OF_D9: Final = frozenset({0xE0, 0xE1, 0xF0, 0xFA, 0xFC, 0xFE, 0xFF})
FTST: Final = 0xE4
COMPARES: Final = (2, 3)  # groups of arithmetic
EXCHANGED: Final = 0xFF  # FXCH: it exchanges what it finds, the indefinite of an empty register included
ONE_AND_PUSH: Final = frozenset({0xF2, 0xF4, 0xFB})  # FPTAN, FXTRACT, FSINCOS: a second result is loaded
CONSTANTS: Final = range(0xE8, 0xEF)
NEAREST, DOWN, UP = 0, 1, 2  # rounding control
MANTISSA, EXPONENT, BIAS = (1 << 64) - 1, 0x7FFF, 16383 + 63


class Demand(NamedTuple):
    """Bit i stands for ST(i)."""

    used: int  # have to be in use
    loaded: int  # have to be empty
    results: int = 0  # get the result
    copied: int = 0  # are loaded without the engine's noting that they are in use
    waits: bool = True  # a pending exception is #MF here


@lru_cache(maxsize=1024)
def demand_of(opcode: int, modrm: int) -> Demand:
    """Return the demands of the instruction of two bytes D8h to DFh and ModR/M."""
    group = modrm >> 3 & 7
    if modrm < REGISTER_FORM:
        return _in_memory(opcode << 8 | modrm & 0x38, opcode, group)
    other = 1 << (modrm & 7)
    two = 1 | other
    compares = group in COMPARES
    if opcode in (0xD8, 0xDC, 0xDE):
        if (opcode, modrm) == (0xDE, 0xD9):  # FCOMPP
            return Demand(3, 0)
        return Demand(two, 0, 0 if compares else 1 if opcode == 0xD8 else other)
    if opcode == 0xD9:
        return _of_d9(modrm, two)
    if opcode == 0xDA:
        return Demand(3, 0) if modrm == 0xE9 else Demand(two, 0, 1) if modrm < 0xE0 else Demand(0, 0)
    if opcode == 0xDB:
        return Demand(0, 0, waits=False) if group == 4 else Demand(two, 0, 1 if group < 4 else 0)
    if opcode == 0xDD:
        used = (0, two, 1, 1, two, two, 0, 0)[group]
        copied = other if group in (2, 3) else 0
        return Demand(used, 0, EXCHANGED if group == 1 else copied, copied)
    return Demand(0, 0, waits=False) if modrm == 0xE0 else Demand(two if group in (5, 6) else 0, 0)


def _in_memory(kind: int, opcode: int, group: int) -> Demand:
    if kind in NEVER_WAIT:
        return Demand(0, 0, waits=False)
    if kind in NO_STACK_IN_MEMORY:
        return Demand(0, 0)
    if kind in LOADS:
        return Demand(0, PUSHED)
    return Demand(1, 0, 1 if not opcode & 1 and group not in COMPARES else 0)


def _of_d9(modrm: int, two: int) -> Demand:
    if modrm < 0xC8:
        return Demand(two & ~1 if modrm & 7 else 1, PUSHED)
    if modrm < 0xD0:
        return Demand(two, 0, EXCHANGED)
    if modrm in CONSTANTS:
        return Demand(0, PUSHED)
    if modrm in ONE_AND_PUSH:
        return Demand(1, PUSHED, 1)
    if modrm in TWO_OF_D9:
        return Demand(3, 0, 2 if modrm in POPPING else 1)
    if modrm == FTST:
        return Demand(1, 0)
    return Demand(1, 0, 1) if modrm in ONE_OF_D9 else Demand(0, 0)


def fits_bcd(raw: int, rounding: int) -> bool:
    """Whether an 80-bit number is at most 18 decimal digits when it is rounded to an integer."""
    exponent = raw >> 64 & EXPONENT
    shift = exponent - BIAS
    if exponent == EXPONENT or shift >= 0:
        return False
    mantissa, negative = raw & MANTISSA, bool(raw >> 79)
    whole, rest = mantissa >> -shift, mantissa & (1 << -shift) - 1
    half = 1 << -shift - 1
    if rounding == NEAREST:
        whole += rest > half or (rest == half and whole & 1)
    elif rounding == (DOWN if negative else UP):
        whole += rest > 0
    return whole < BCD_LIMIT
