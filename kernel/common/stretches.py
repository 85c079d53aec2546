"""Stretches of numbers that follow each other: of blocks of a disk, of page frames."""

from __future__ import annotations

from collections.abc import Sequence


def stretches(values: Sequence[int], step: int) -> list[tuple[int, int]]:
    """Return (first index, index after the last) of the longest pieces in which each value is the one before + step."""
    if not values:
        return []
    first, count = values[0], len(values)
    if isinstance(values, range) and values.step == step:
        return [(0, count)]
    if list(values) == list(range(first, first + count * step, step)):
        return [(0, count)]  # nearly always
    breaks = [index for index in range(1, count) if values[index] - values[index - 1] != step]
    return list(zip([0, *breaks], [*breaks, count], strict=True))
