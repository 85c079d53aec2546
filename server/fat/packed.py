"""Arithmetic on whole stretches of a FAT at once, the same for 12, 16 and 32-bit entries.

A FAT is one little-endian number in which entry n occupies the bits from n * width; the specification's nibble rules
for FAT12 ("FAT Data Structure") amount to this.  Counting and comparing are then a few operations on one big integer
instead of a loop over entries.
"""

from functools import lru_cache
from typing import Any, Final

ENTRY_MASKS: Final = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFF_FFFF}  # FAT32 entries have 28 bits


@lru_cache(maxsize=4)
def _ones(bits: int, count: int) -> int:
    """Return a number with 1 in each entry."""
    pair = (1 | 1 << bits).to_bytes(bits // 4, "little")
    return int.from_bytes(pair * -(-count // 2), "little") & ((1 << bits * count) - 1)


@lru_cache(maxsize=16)
def repeat(value: int, bits: int, count: int) -> int:
    """Return a number with ``value`` in each of ``count`` entries of ``bits`` bits."""
    return value * _ones(bits, count)


@lru_cache(maxsize=4)
def _ramp(bits: int, count: int) -> int:
    """Return a number with k in entry k."""
    if bits == 12:
        return sum(k << 12 * k for k in range(count))
    return int.from_bytes(b"".join(k.to_bytes(bits // 8, "little") for k in range(count)), "little")


class PackedEntries:
    """``count`` consecutive entries of a FAT, the first of them that of cluster ``base``; immutable."""

    __slots__ = ("base", "bits", "count", "number")

    def __init__(self, data: bytes, bits: int, base: int, count: int) -> None:
        self.bits = bits
        self.base = base
        self.count = count
        self.number = int.from_bytes(data, "little") & repeat(ENTRY_MASKS[bits], bits, count)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedEntries":
        return self

    def value(self, cluster: int) -> int:
        """Return the entry of ``cluster``, which must lie in this stretch."""
        return self.number >> self.bits * (cluster - self.base) & ENTRY_MASKS[self.bits]

    def from_cluster(self, first: int) -> "PackedEntries":
        """Return the stretch without the entries below that of cluster ``first``."""
        skipped = first - self.base
        if skipped <= 0:
            return self
        rest = PackedEntries(b"", self.bits, first, self.count - skipped)
        rest.number = self.number >> self.bits * skipped
        return rest

    def contiguous(self, cluster: int) -> int:
        """Return how many entries from that of ``cluster`` on point to the next cluster.

        Subtracting these values leaves zeros up to the first entry that differs; a borrow only affects entries above
        that one.
        """
        if self.value(cluster) != cluster + 1:
            return 0
        offset = (cluster - self.base) * self.bits
        count = self.count - (cluster - self.base)
        expected = _ramp(self.bits, self.count) & ((1 << self.bits * count) - 1)
        expected += (repeat(1, self.bits, self.count) >> offset) * (cluster + 1)
        difference = (self.number >> offset) - expected
        if difference == 0:
            return count
        lowest = (difference & -difference).bit_length() - 1
        return min(lowest // self.bits, count)

    def count_equal(self, value: int) -> int:
        """Return how many entries are ``value``.

        Entries are folded onto their lowest bits by halves: each shift brings down the upper half, and bits from the
        entry above are masked off before the next one.
        """
        different = self.number ^ repeat(value, self.bits, self.count)
        width = self.bits
        while width > 1:
            half = -(-width // 2)
            different |= different >> half
            different &= repeat((1 << half) - 1, self.bits, self.count)
            width = half
        return self.count - different.bit_count()
