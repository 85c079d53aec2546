"""Many threads compute in x87 and SSE at once, with control words of their own: results are as for each alone."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from struct import pack
from typing import Any

import pytest

HELD = 0
NEAREST, DOWN, UP, ZERO = range(4)
FOUR = Fraction(4)


def rounded(value: Fraction, bits: int, mode: int) -> Fraction:
    """Round to a mantissa of `bits` bits as the four rounding modes do (SDM vol. 1, 4.8.4)."""
    if not value:
        return value
    exponent = 0
    scaled = value
    while abs(scaled) >= 1 << bits:
        scaled, exponent = scaled / 2, exponent + 1
    while abs(scaled) < 1 << bits - 1:
        scaled, exponent = scaled * 2, exponent - 1
    way = (round, floor, ceil, int)[mode]
    return Fraction(way(scaled)) * Fraction(2) ** exponent


def series(terms: int, bits: int, mode: int) -> Fraction:
    """Return 4/1 - 4/3 + 4/5 - ..., each quotient and each sum rounded."""
    total, four = Fraction(0), FOUR
    for index in range(terms):
        total = rounded(total + rounded(four / (2 * index + 1), bits, mode), bits, mode)
        four = -four
    return total


def extended(value: Fraction) -> bytes:
    """Encode a positive number in 80 bits."""
    exponent = 0
    while value >= 1 << 64:
        value, exponent = value / 2, exponent + 1
    while value < 1 << 63:
        value, exponent = value * 2, exponent - 1
    return pack("<QH", int(value), exponent + 16383 + 63)


def argument(terms: int, threads: int) -> bytes:
    records = b"".join(
        extended(series(terms, 64, mode)) + bytes(6) + pack("<d", float(series(terms, 53, mode)))
        for mode in range(threads)
    )
    return b"sum\0" + pack("<2I", terms, threads) + records


def test_the_oracle_agrees_with_the_hosts_own_arithmetic() -> None:
    total, four = 0.0, 4.0
    for index in range(60):
        total += four / (2 * index + 1)
        four = -four
    assert float(series(60, 53, NEAREST)) == total
    sums = [series(60, 53, mode) for mode in (DOWN, NEAREST, UP)]
    assert sums == sorted(set(sums)), "the rounding modes make a difference"


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("programs", "threads", "terms"), [(1, 1, 100), (1, 4, 100), (5, 4, 120)])
def test_threads_that_compute_at_once_get_what_each_gets_alone(
    arena: Callable[..., Any], programs: int, threads: int, terms: int
) -> None:
    made = arena()
    for _ in range(programs):
        made.wanted.append(lambda: made.attackers.append(made.start("sums", argument(terms, threads))))
    made.victim()
    made.run()
    assert made.results == [HELD] * programs, made.log
    switches = made.system.machine.ledger.counts().fpu_switches
    assert switches >= programs * threads * terms if programs * threads > 1 else switches == 1
    made.assert_unharmed()
