"""Directories that one reply cannot carry: as many entries as fit, and every file can still be opened."""

import pytest
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.listing import ListedFile, fitting_pages, read_pages

NAMES = 65_536


@pytest.mark.thorough(only=True)
def test_as_many_entries_as_fit_are_listed_and_counted() -> None:
    files = [ListedFile(f"FILE{number:04X}.TXT", 0, number) for number in range(NAMES)]
    data, listed = fitting_pages(files, 7)
    assert len(data) == MESSAGE_ADDRESSES * 4096
    assert 0 < listed < NAMES
    assert list(read_pages(data)) == files[:listed]


def test_a_directory_that_fits_is_listed_whole() -> None:
    files = [ListedFile(f"file {number}", 0, number) for number in range(1000)]
    data, listed = fitting_pages(files, 7)
    assert listed == 1000
    assert list(read_pages(data)) == files
