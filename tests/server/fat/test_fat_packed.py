"""Arithmetic on packed FAT entries against the specification's nibble rules, entry by entry."""

import random

import pytest
from callgate.server.fat.packed import PackedEntries
from hypothesis import given, settings
from hypothesis import strategies as st


def pack(values: list[int], bits: int) -> bytes:
    """Pack as section "FAT Data Structure" says: FAT12 by nibbles, the others as words."""
    if bits != 12:
        return b"".join(value.to_bytes(bits // 8, "little") for value in values)
    data = bytearray(len(values) * 3 // 2 + 2)
    for n, value in enumerate(values):
        offset = n + n // 2
        word = int.from_bytes(data[offset : offset + 2], "little")
        word = word & 0x000F | value << 4 if n & 1 else word & 0xF000 | value
        data[offset : offset + 2] = word.to_bytes(2, "little")
    return bytes(data)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    bits = draw(st.sampled_from([12, 16, 32]))
    base = draw(st.integers(0, 2000))
    count = draw(st.integers(1, 60))
    limit = (1 << bits) - 1
    values = [
        draw(st.one_of(st.just(base + n + 1), st.sampled_from([0, limit, base + n]), st.integers(0, limit)))
        for n in range(count)
    ]
    return bits, base, values


@pytest.mark.thorough(only=True)
@settings(deadline=None, derandomize=True)
@given(tables())
def test_values_runs_and_counts_of_a_packed_fat_are_those_of_its_entries(table: tuple[int, int, list[int]]) -> None:
    bits, base, values = table
    entries = PackedEntries(pack(values, bits), bits, base, len(values))
    masked = [value & 0x0FFF_FFFF if bits == 32 else value for value in values]
    for n, value in enumerate(masked):
        assert entries.value(base + n) == value
        run = 0
        while n + run < len(masked) and masked[n + run] == base + n + run + 1:
            run += 1
        assert entries.contiguous(base + n) == run
    for value in {0, *masked}:
        assert entries.count_equal(value) == masked.count(value)
    for skipped in range(len(values)):
        rest = entries.from_cluster(base + skipped)
        assert rest.count_equal(0) == masked[skipped:].count(0)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_full_window_of_a_packed_fat_is_one_run(bits: int) -> None:
    count = {12: 4084, 16: 2048, 32: 1024}[bits]
    entries = PackedEntries(pack([n + 1 for n in range(count)], bits), bits, 0, count)
    assert entries.contiguous(0) == count
    for first in random.Random(1).sample(range(count), 50):
        assert entries.contiguous(first) == count - first
