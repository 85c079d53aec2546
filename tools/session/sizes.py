"""Sizes and numbers on the command line: `64M`, `1G`, `4096`."""

import re
from typing import Any

import click

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PATTERN = re.compile(r"(\d+)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic only in some versions of click
    """A number of bytes with an optional unit (powers of 1024)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes; a usage error names the fault."""
        if isinstance(value, int):
            return value
        match = PATTERN.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write a number with K, M or G, such as 64M", param, ctx)
        return int(match[1]) * UNITS[match[2].upper()]


class Number(click.IntRange):
    """A whole number in a range."""

    name = "number"

    def __init__(self, least: int, most: int | None = None, hint: str = "") -> None:
        """`hint` says in messages what to give instead of what is no such number."""
        super().__init__(least, most)
        self.hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error says which ones there are."""
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or not (self.min or 0) <= number <= (self.max or number):
            wanted = f"from {self.min} on" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"{value!r} is not a number {wanted}{self.hint and f'; {self.hint}'}", param, ctx)
        return number


def text_of(size: int) -> str:
    """Return a number of bytes as one would type it: `8M`."""
    unit = max((unit for unit in UNITS if size % UNITS[unit] == 0), key=UNITS.__getitem__) if size else ""
    return f"{size // UNITS[unit]}{unit}"


SIZE = SizeType()
