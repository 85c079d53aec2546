"""Floating-point numbers of data directives, rounded to nearest, ties to even (IEEE 754; Intel SDM vol. 1, 4.2.2)."""

import re
from fractions import Fraction
from typing import Final

NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)\s*(?:0[fFdD])?(?:(?P<digits>(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]+))?"
    r"|(?P<word>inf|infinity|nan))$",
    re.IGNORECASE,
)
# Directive -> bits of the exponent and of the fraction after the leading bit, bytes.
FORMATS: Final = {".float": (8, 23, 4), ".single": (8, 23, 4), ".double": (11, 52, 8), ".tfloat": (15, 63, 10)}
EXPONENT_LIMIT: Final = 6000  # decimal; beyond every format


def float_bytes(text: str, directive: str) -> bytes | None:
    """Return a number as the CPU reads it; None if the text is not a number; OverflowError if it is too large."""
    match = NUMBER.match(text)
    if match is None:
        return None
    exponent_bits, fraction_bits, size = FORMATS[directive]
    top = (1 << exponent_bits) - 1
    if match["word"]:
        exponent, significand = top, 1 << fraction_bits  # the explicit leading bit of 80 bits
        if match["word"].lower() == "nan":
            significand |= 1 << fraction_bits - 1
    else:
        exponent, significand = rounded(exact(match), exponent_bits, fraction_bits)
        if exponent >= top:
            raise OverflowError
    if size != 10:
        significand &= (1 << fraction_bits) - 1
    fraction_size = 64 if size == 10 else fraction_bits
    sign = int(match["sign"] == "-")
    return ((sign << exponent_bits | exponent) << fraction_size | significand).to_bytes(size, "little")


def exact(match: re.Match[str]) -> Fraction:
    """Return the number that is written."""
    power = max(-EXPONENT_LIMIT, min(int(match["exponent"] or 0), EXPONENT_LIMIT))
    return Fraction(match["digits"].rstrip(".") or "0") * Fraction(10) ** power


def rounded(value: Fraction, exponent_bits: int, fraction_bits: int) -> tuple[int, int]:
    """Return the biased exponent, and the significand with its leading bit."""
    if not value:
        return 0, 0
    bias = (1 << exponent_bits - 1) - 1
    power = value.numerator.bit_length() - value.denominator.bit_length()
    if value < Fraction(2) ** power:
        power -= 1
    power = max(power, 1 - bias)  # denormal numbers share the smallest exponent
    significand = round(value / Fraction(2) ** (power - fraction_bits))
    if significand >> fraction_bits + 1:
        significand, power = significand >> 1, power + 1
    return (power + bias if significand >> fraction_bits else 0), significand
