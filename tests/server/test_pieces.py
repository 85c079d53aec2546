"""Cutting runs of sectors into entries: every sector once, in order, never across a block of the disk."""

from callgate.server import cut
from callgate.server.pieces import piece, sectors_of
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 5000), st.integers(0, 506))
def test_pieces_cover_the_run_as_far_as_the_limit_lets_them(start: int, sector: int, count: int, limit: int) -> None:
    entries = cut(start, sector, count, limit)
    at = sector
    for first, size in map(piece, entries):
        assert first == at
        assert 1 <= size <= 8
        assert (start + first) // 8 == (start + first + size - 1) // 8
        at += size
    assert at - sector == sectors_of(entries) <= count
    assert len(entries) <= limit
    if at < sector + count:
        assert len(entries) == limit


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 200))
def test_a_run_has_no_more_pieces_than_blocks(start: int, sector: int, count: int) -> None:
    blocks = (start + sector + count - 1) // 8 - (start + sector) // 8 + 1
    assert len(cut(start, sector, count)) == blocks


@settings(deadline=None, derandomize=True)
@given(st.integers(1, (1 << 60) - 8))
def test_sector_entries_hold_numbers_of_sixty_bits(sector: int) -> None:
    assert piece(cut(0, sector - sector % 8, 8)[0]) == (sector - sector % 8, 8)
