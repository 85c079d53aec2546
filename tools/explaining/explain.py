"""What a word and its values are taken for: a register, an entry, a descriptor, an error code, an address or a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from callgate.kernel.common.near_miss import nearest
from callgate.tools.explaining import addresses, names, paging, registers, segments
from callgate.tools.explaining.answers import Answer, Unknown

Explain = Callable[[int | None], Answer]
#: By word: bits of the number, whether it is written in hexadecimal without 0x too, and what explains it.
KINDS: Final[dict[str, tuple[int, bool, Explain]]] = {
    "eflags": (32, False, registers.eflags),
    "cr0": (32, False, registers.cr0),
    "cr3": (32, False, registers.cr3),
    "cr4": (32, False, registers.cr4),
    "efer": (32, False, registers.efer),
    "pte": (64, True, paging.pte),
    "pde": (64, True, paging.pde),
    "pdpte": (64, True, paging.pdpte),
    "selector": (16, False, segments.selector),
    "descriptor": (64, True, segments.descriptor),
}
WORDS: Final = (*KINDS, "error-code", "address")
NUMBER: Final = re.compile(r"(?i:0x[\da-f_]+|[\d_]+|[\da-f]+h)")
HEXADECIMAL: Final = re.compile(r"(?i:(?:0x)?[\da-f_]+h?)")


def explain(words: Sequence[str], program: str | None = None) -> list[Answer]:
    """Explain a word with its values; Unknown if that cannot be done.  `program` is where addresses are looked up."""
    first, *rest = words
    kind = first.lower()
    if kind in KINDS:
        width, plain, function = KINDS[kind]
        return [function(number(one, width, plain)) for one in rest] or [function(None)]
    if kind == "error-code":
        if not 1 <= len(rest) <= 2:
            raise Unknown("error-code: name the exception and its code, such as: error-code pf 7")
        return [paging.error_code(rest[0], number(rest[1], 32) if rest[1:] else None)]
    if kind == "address":
        if not rest:
            raise Unknown("address: give a number, such as: address 0xc0101000")
        return [addresses.explain(number(one, 32), program) for one in rest]
    if rest:
        near = nearest(kind, WORDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WORDS)}"
        raise Unknown(f"{first!r} is not a kind of value; {hint}")
    if NUMBER.fullmatch(first):
        return of_number(number(first, 64), program)
    return names.explain(first)


def of_number(value: int, program: str | None) -> list[Answer]:
    """Explain a number alone: as an address, and as a selector if there is something under it here.

    One with over 32 bits is explained as entry of a page table and as descriptor.
    """
    if value >> 32:
        return [paging.pte(value), segments.descriptor(value)]
    answers = [addresses.explain(value, program)]
    return [*answers, segments.selector(value)] if segments.known(value) else answers


def number(text: str, width: int, plain: bool = False) -> int:
    """Return a number of `width` bits: 0x1f, 1fh, 31; with `plain` 1f too.  Unknown says what is wrong."""
    if not (HEXADECIMAL if plain else NUMBER).fullmatch(text) or text.strip("_") != text:
        raise Unknown(f"{text!r} is not a number; write 0x1f, 1fh{' or 1f' if plain else ' or 31'}")
    digits = text.lower().replace("_", "")
    hexadecimal = plain or digits.startswith("0x") or digits.endswith("h")
    value = int(digits.removesuffix("h"), 16) if hexadecimal else int(digits)
    if value >> width:
        raise Unknown(f"{text} has more than {width} bits")
    return value
