"""What the host knows of the pages of a mapping: which it has, and of a private mapping which were written.

Both are read from /proc/self/pagemap (Linux, Documentation/admin-guide/mm/pagemap.rst).  The descriptor is kept open:
opening it takes longer than asking it.  It speaks of the process that opened it, so a process that was forked since
opens its own.
"""

import ctypes
import errno
import fcntl
import os
import weakref
from typing import Final

from callgate.kernel.abi.memory import PAGE_SIZE

PATH: Final = "/proc/self/pagemap"
ENTRY: Final = 8  # bytes of a page's entry
FLAGS: Final = 7  # its byte that holds bit 63, present, bit 62, swapped, and bit 61, of a file
IN_USE: Final = bytes(byte >> 6 != 0 for byte in range(256))
PRIVATE: Final = bytes(byte >> 6 != 0 and not byte & 0x20 for byte in range(256))


class PageScan(ctypes.Structure):
    """`struct pm_scan_arg` of Linux (include/uapi/linux/fs.h)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vector", "vector_length", "max_pages"),
            *("inverted", "mask", "any_of", "returned"),
        )
    ]


SCAN_FILE, SCAN_PRESENT, SCAN_SWAPPED = 4, 8, 16  # categories of pages
PAGEMAP_SCAN: Final = 3 << 30 | ctypes.sizeof(PageScan) << 16 | ord("f") << 8 | 16  # _IOWR('f', 16, struct pm_scan_arg)
RUNS_AT_ONCE: Final = 512
WORDS_OF_RUN: Final = 3  # of the host: start, end, categories


class PageMap:
    """The pages of `size` bytes at an address of this process."""

    def __init__(self, address: int, size: int) -> None:
        """Nothing is asked yet."""
        self.address = address
        self.size = size
        self.process = 0  # whose descriptor it is
        self.descriptor = -1
        self.quick = True  # as far as known: `private_copies` takes time that grows with the pages in use
        self.runs = (ctypes.c_uint64 * (WORDS_OF_RUN * RUNS_AT_ONCE))()
        self.words = memoryview(self.runs).cast("B").cast("Q")
        anywhere = SCAN_PRESENT | SCAN_SWAPPED
        self.scan = PageScan(
            *(ctypes.sizeof(PageScan), 0, address, address + size, 0),
            *(ctypes.addressof(self.runs), RUNS_AT_ONCE, 0),
            *(SCAN_FILE, SCAN_FILE, anywhere, SCAN_FILE),
        )

    def _opened(self) -> int:
        """Return a descriptor of this process's page map; OSError where the host has none."""
        process = os.getpid()
        if process != self.process:
            self.descriptor = os.open(PATH, os.O_RDONLY | os.O_CLOEXEC)
            self.process = process
            weakref.finalize(self, os.close, self.descriptor)
        return self.descriptor

    def _entries(self) -> bytes:
        """Return the flags of each page."""
        size = self.size // PAGE_SIZE * ENTRY
        return os.pread(self._opened(), size, self.address // PAGE_SIZE * ENTRY)[FLAGS::ENTRY]

    def pages_in_use(self) -> bytearray:
        """Return a byte a page: 0 for one that the host does not have, which was never touched."""
        try:
            return bytearray(self._entries().translate(IN_USE))  # a loop in Python would take 10 ms
        except OSError:  # a host without /proc: look at every page
            return bytearray(b"\1" * (self.size // PAGE_SIZE))

    def private_copies(self) -> list[tuple[int, int]]:
        """Return (start, end) offsets of pages that were written: they are no longer those of the mapping's file.

        Linux tells since 6.7 in time that grows with the pages in use; before, in time that grows with the mapping.
        OSError where neither works.
        """
        try:
            return self._scanned()
        except OSError:
            self.quick = False
            runs = runs_of(self._entries().translate(PRIVATE))
            return [(first * PAGE_SIZE, last * PAGE_SIZE) for first, last in runs]

    def scan_copies(self) -> int:
        """Have the host write the same, as addresses, to `runs`: return how many runs of WORDS_OF_RUN words there are.

        OSError where it cannot, or where they are too many for `runs`.
        """
        scan = self.scan
        scan.start = self.address
        found: int = fcntl.ioctl(self._opened(), PAGEMAP_SCAN, scan)
        if scan.walk_end < scan.end:
            raise OSError(errno.E2BIG, "too many pages apart from each other")
        return found

    def _scanned(self) -> list[tuple[int, int]]:
        """Do it by PAGEMAP_SCAN."""
        descriptor, address, scan = self._opened(), self.address, self.scan
        scan.start = address
        found: list[tuple[int, int]] = []
        while True:
            count = fcntl.ioctl(descriptor, PAGEMAP_SCAN, scan)
            if not count:
                return found  # it has come to the end
            words = self.words[: WORDS_OF_RUN * count].tolist()
            for at in range(0, len(words), WORDS_OF_RUN):
                found.append((words[at] - address, words[at + 1] - address))
            if scan.walk_end >= scan.end:
                return found
            scan.start = scan.walk_end


def runs_of(marks: bytes | bytearray) -> list[tuple[int, int]]:
    """Return (first, last) of the runs of ones among bytes that are 1 or 0; `last` is excluded."""
    found = []
    first = marks.find(1)
    while first >= 0:
        last = marks.find(0, first)
        last = len(marks) if last < 0 else last
        found.append((first, last))
        first = marks.find(1, last)
    return found
