"""The plain blocks of one machine: what is to be known of them while they execute, and when a site is set in one."""

from __future__ import annotations

from typing import Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT
from callgate.kernel.machine.blocks.shapes import Shape

SHAPES: Final = 1 << 14  # kept at a time


class Span(NamedTuple):
    """A plain block: linear addresses, and the physical pages that it was translated from."""

    begin: int
    end: int
    pages: tuple[int, ...]


class PlainBlocks:
    """Their shapes by number, which blocks of the same shape share, and where they lie.

    A block stays known after its translation has been dropped, until all of them are.
    """

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self.numbers: dict[Shape, int] = {}
        self.spans: dict[int, set[Span]] = {}  # by linear page

    def number(self, shape: Shape) -> int | None:
        """Return the number of a shape; None if there are too many, and all translations have to be dropped first."""
        number = self.numbers.get(shape)
        if number is None and len(self.shapes) < SHAPES:
            number = self.numbers[shape] = len(self.shapes)
            self.shapes.append(shape)
        return number

    def note(self, address: int, size: int, pages: tuple[int, ...]) -> None:
        """Remember where a block lies."""
        span = Span(address, address + size, pages)
        for page in {address >> PAGE_SHIFT, address + size - 1 >> PAGE_SHIFT}:
            self.spans.setdefault(page, set()).add(span)

    def without(self, address: int) -> set[int]:
        """Forget the blocks that hold an address; return the physical pages whose translations have to be dropped."""
        spans = self.spans.get(address >> PAGE_SHIFT, set())
        hit = {span for span in spans if span.begin <= address < span.end}
        spans -= hit
        return {page for span in hit for page in span.pages}

    def forget(self) -> None:
        """All translations are gone."""
        self.shapes.clear()
        self.numbers.clear()
        self.spans.clear()
