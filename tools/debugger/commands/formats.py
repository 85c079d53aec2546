"""Numbers as gdb's letters ask for them: `print/x`, `x/8db`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.workbench.workbench import Workbench

LETTERS: Final = "xduotca"
"""Hexadecimal, decimal with and without a sign, octal, binary, a character, an address with its symbol."""
ROW_BYTES: Final = 16
LONGEST_TEXT: Final = 200  # bytes, as gdb shows
DWORD: Final = 4  # bytes
CONTROL: Final = {0: r"\0", 9: r"\t", 10: r"\n", 13: r"\r", 34: r"\"", 92: "\\\\"}


def formatted(bench: Workbench, number: int, letter: str, size: int) -> str:
    """Return a number of `size` bytes, which may be negative, in one of LETTERS."""
    bits = 8 * size
    plain = number & (1 << bits) - 1
    if letter == "d":
        return str(plain - (1 << bits) if plain >> bits - 1 else plain)
    if letter == "c":
        return f"{formatted(bench, plain & 0xFF, 'd', 1)} '{character(plain & 0xFF)}'"
    if letter == "a":
        return bench.code.name(plain & 0xFFFF_FFFF)
    if letter == "o":
        return f"0{plain:o}" if plain else "0"
    return {"x": f"{plain:#0{2 * size + 2}x}", "u": str(plain), "t": f"{plain:0{bits}b}"}[letter]


def character(byte: int) -> str:
    """Return a byte as a character of a C literal."""
    return CONTROL.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")


def printed(bench: Workbench, text: str, value: object, letter: str) -> str:
    """Return the value of an expression in a format; CommandError for a letter that is none, and for no number."""
    if letter not in LETTERS:
        raise CommandError(f"print/{letter}: a letter is one of {' '.join(LETTERS)}")
    if not isinstance(value, int):
        raise CommandError(f"{text} is no number")
    size = DWORD
    while not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
        size *= 2
    return formatted(bench, value, letter, size)


def rows(bench: Workbench, data: bytes, address: int, size: int, letter: str) -> Iterator[str]:
    """Yield bytes as numbers of `size` bytes in a format, up to 16 bytes a line."""
    step = size if letter == "a" else ROW_BYTES
    for offset in range(0, len(data), step):
        row = data[offset : offset + step]
        numbers = [int.from_bytes(row[at : at + size], "little") for at in range(0, len(row), size)]
        yield f"{address + offset:08x}  {'  '.join(formatted(bench, number, letter, size) for number in numbers)}"


def texts(bench: Workbench, process: Process, address: int, count: int) -> Iterator[str]:
    """Yield `count` texts that end with a byte of 0, each with its address; CommandError where nothing is mapped."""
    for _ in range(count):
        data = bench.debuggee.memory.read(process, address, LONGEST_TEXT)
        if not data:
            raise CommandError(f"{address:#010x}: no memory is mapped there")
        text, end, _ = data.partition(b"\0")
        yield f'{address:08x}  "{"".join(map(character, text))}"{"" if end else "…"}'
        address += len(text) + len(end)


def format_in(rest: str) -> tuple[str, str]:
    """Return the letter of `/F EXPRESSION`, "" if there is none, and the expression."""
    found = re.fullmatch(r"/\s*(\w+)\s+(.+)", rest)
    return (found[1], found[2]) if found is not None else ("", rest)
