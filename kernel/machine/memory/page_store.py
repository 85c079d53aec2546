"""Contents of pages outside of RAM, in memory that costs the host little to take.

A page that is put into new memory of the allocator's costs a page fault, several times as long as the copy takes.  So
pages are kept in large mappings, which the host may make of huge pages, and room that becomes free is used again.
They are known by address, and a page of zeros, which takes no memory, by `NO_PAGE`: they are compared in place, without
an object of Python's for each.
"""

import ctypes
import mmap
from array import array
from collections.abc import Callable, Iterable
from typing import Final

from callgate.kernel.abi.memory import PAGE_SIZE

CHUNK: Final = 8 << 20  # bytes of a mapping
HUGE_PAGES: Final = getattr(mmap, "MADV_HUGEPAGE", None)  # of Linux
ZEROS: Final = bytes(PAGE_SIZE)

_process = ctypes.PyDLL(None)  # such short calls keep the interpreter's lock
_process.memmove.argtypes = _process.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_process.memmove.restype = None
_move: Callable[[int, int, int], None] = _process.memmove
differ: Callable[[int, int, int], int] = _process.memcmp
"""Whether bytes of this process at two addresses are not the same: 0 if they are."""

_zeros = ctypes.create_string_buffer(PAGE_SIZE)
NO_PAGE: Final = ctypes.addressof(_zeros)


class PageStore:
    """Pages that are kept."""

    def __init__(self) -> None:
        """Nothing is kept."""
        self.chunks: list[mmap.mmap] = []
        self.free = array("Q")  # addresses

    def put(self, source: int) -> int:
        """Keep what the page at an address of this process holds; return the address of the copy."""
        if not differ(source, NO_PAGE, PAGE_SIZE):
            return NO_PAGE
        self.make_room(1)
        page = self.free.pop()
        _move(page, source, PAGE_SIZE)
        return page

    def drop(self, page: int) -> None:
        """Forget a page that was put."""
        if page != NO_PAGE:
            self.free.append(page)

    def keep_only(self, used: Iterable[int]) -> None:
        """Forget all pages but these."""
        places = {page for first in map(first_of, self.chunks) for page in range(first, first + CHUNK, PAGE_SIZE)}
        self.free = array("Q", sorted(places.difference(used), reverse=True))

    def make_room(self, pages: int) -> None:
        """Have room for at least this many pages; those taken next are the last ones of `free`."""
        while len(self.free) < pages:
            self._grow()

    def _grow(self) -> None:
        chunk = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if HUGE_PAGES is not None:
            chunk.madvise(HUGE_PAGES)
        first = first_of(chunk)
        self.chunks.append(chunk)
        self.free = array("Q", range(first + CHUNK - PAGE_SIZE, first - PAGE_SIZE, -PAGE_SIZE)) + self.free


def first_of(chunk: mmap.mmap) -> int:
    """Return the address of the first page of a mapping."""
    return ctypes.addressof(ctypes.c_char.from_buffer(chunk))


def content(page: int) -> bytes:
    """Return what a kept page holds."""
    return ZEROS if page == NO_PAGE else ctypes.string_at(page, PAGE_SIZE)
