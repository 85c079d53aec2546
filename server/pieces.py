"""Cutting runs of sectors into the entries of a sectors reply (abi/volume.py).

An entry is a piece of one 4 KiB block, and blocks are those of the disk: a partition that starts at LBA
63 has its first block boundary at sector 1.
"""

from typing import Final, NamedTuple

from callgate.kernel.abi.memory import SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.abi.volume import (
    SECTOR_ENTRY_COUNT_MASK,
    SECTOR_ENTRY_COUNT_SHIFT,
    SECTOR_ENTRY_HOLE,
    SECTOR_ENTRY_MASK,
)

_WHOLE: Final = (SECTORS_PER_PAGE - 1) << SECTOR_ENTRY_COUNT_SHIFT


class Extract(NamedTuple):
    """Part of a file: from byte ``position`` (a multiple of 512), ``size`` bytes, in ``entries``."""

    position: int
    size: int
    entries: list[int]


def cut(start: int, sector: int, count: int, limit: int = MESSAGE_ADDRESSES) -> list[int]:
    """Return at most ``limit`` entries for ``count`` sectors from ``sector`` of a partition at ``start``.

    ``start`` is the partition's first LBA on the disk; entries hold sectors of the partition.
    """
    end = sector + count
    to_boundary = -(start + sector) % SECTORS_PER_PAGE
    entries = []
    if to_boundary and limit > 0 and count > 0:
        entries.append(_entry(sector, min(to_boundary, count)))
        sector += to_boundary
    whole = max(0, min((end - sector) // SECTORS_PER_PAGE, limit - len(entries)))
    last = sector + whole * SECTORS_PER_PAGE
    first = sector | _WHOLE
    entries.extend(range(first, first + last - sector, SECTORS_PER_PAGE))
    if last < end and len(entries) < limit:
        entries.append(_entry(last, min(end - last, SECTORS_PER_PAGE)))
    return entries


def _entry(sector: int, count: int) -> int:
    return sector | (count - 1) << SECTOR_ENTRY_COUNT_SHIFT


def cut_hole(within: int, count: int, limit: int = MESSAGE_ADDRESSES) -> list[int]:
    """Return at most ``limit`` entries for ``count`` sectors of zeros that are nowhere on the disk.

    ``within`` is the sector within its page at which they begin, 0 to 7: where the entry before them ends, so
    that the pages of the file go on without a break.
    """
    entries: list[int] = []
    while count > 0 and len(entries) < limit:
        size = min(count, SECTORS_PER_PAGE - within)
        entries.append(SECTOR_ENTRY_HOLE | _entry(within, size))
        within, count = 0, count - size
    return entries


def piece(entry: int) -> tuple[int | None, int]:
    """Return first sector (None for a hole) and number of sectors of an entry."""
    first = None if entry & SECTOR_ENTRY_HOLE else entry & SECTOR_ENTRY_MASK
    return first, (entry >> SECTOR_ENTRY_COUNT_SHIFT & SECTOR_ENTRY_COUNT_MASK) + 1


def within(entries: list[int], sectors: int) -> list[int]:
    """Return the entries up to where they leave a partition of ``sectors`` sectors, the last one shortened to that."""
    kept: list[int] = []
    for entry in entries:
        first, count = piece(entry)
        if first is not None and first + count > sectors:
            return [*kept, _entry(first, sectors - first)] if first < sectors else kept
        kept.append(entry)
    return kept


def sectors_of(entries: list[int]) -> int:
    """Return how many sectors the entries cover."""
    counts = [entry >> SECTOR_ENTRY_COUNT_SHIFT & SECTOR_ENTRY_COUNT_MASK for entry in entries]
    return sum(counts) + len(entries)
