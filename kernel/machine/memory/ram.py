"""RAM: one private mapping for each of low and high memory, shared with the CPU.

The emulator works on the same bytes as the `memoryview`s given out here (of high memory through the counting device of
`machine.engine.counter`), so nothing is ever copied
between guest and host, and a file can be read straight into guest memory.  A snapshot puts the content into a memory
file and maps that.  Because the mapping is private, mapping the file again over itself drops every page written since:
that is how a snapshot is restored (`machine.snapshot`).  Until the first snapshot RAM is anonymous memory: the first
store to a page of a file that is empty there costs the host two pages, one for the file and one for the copy.

Which pages were written the host tells (`page_map`), which takes it 0.1 to 0.3 µs for each that it has mapped.  High
memory has many and is seldom written, so all that writes to it leaves a mark for each page instead.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import Counter
from collections.abc import Iterator

from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.memory.accounts import NOT_BOOKED, Account
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.memory.lent_views import LentViews
from callgate.kernel.machine.memory.page_map import PageMap, runs_of

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
MADV_DONTNEED = 4
MADV_HUGEPAGE = 14
MAP_FAILED = ctypes.c_void_p(-1).value
SEEK_DATA, SEEK_HOLE = 3, 4
FEW = 16 * PAGE_SIZE  # bytes in pages that are faster written than dropped and made again
MANY = 8  # runs of pages, which are dropped faster with all that lies between, although that has to be found again


def check_sizes(**sizes: int) -> None:
    """Raise ValueError for an argument that is not a size of memory."""
    for name, size in sizes.items():
        if size % PAGE_SIZE or size < 0:
            raise ValueError(f"{name} of {size} bytes is not a multiple of {PAGE_SIZE}")


class Backing:
    """A memory file that RAM is, or was, a private mapping of; closed when nothing refers to it."""

    def __init__(self, name: str, size: int) -> None:
        """Make an empty file of `size` bytes; OSError if the host has none."""
        self.fd = os.memfd_create(f"callgate-{name}", os.MFD_CLOEXEC)
        self.size = size
        self.stored = 0
        self.pages: dict[int, bytes] = {}  # what `page` has read
        weakref.finalize(self, os.close, self.fd)
        os.ftruncate(self.fd, size)

    def page(self, offset: int) -> bytes:
        """Return a page of the file, and keep it: pages of code are compared at every restore."""
        page = self.pages.get(offset)
        if page is None:
            page = self.pages[offset] = os.pread(self.fd, PAGE_SIZE, offset)
        return page

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes of the file, before it is mapped or a page of it is read."""
        while data:
            written = os.pwrite(self.fd, data, offset)
            offset, data = offset + written, data[written:]
            self.stored += written


class Region:
    """A range of RAM: `size` bytes at physical `base`, a private mapping of zeros or of a memory file."""

    def __init__(self, name: str, base: int, size: int, *, marked: bool = False) -> None:
        """Make zeroed RAM; OSError if the host has none.

        With `marked`, all that writes to it has to `mark` what it writes: host code does it itself (`counter_code`).
        """
        self.name = name
        self.base = base
        self.size = size
        self.backing: Backing | None = None  # the file that is mapped; None before the first snapshot
        self.address = self._map(None, 0)
        self.buffer = (ctypes.c_ubyte * size).from_address(self.address)
        unmapping = weakref.finalize(self.buffer, _libc.munmap, self.address, size)  # slices of the view keep it alive
        unmapping.atexit = False  # the engine may go later
        self.view = memoryview(self.buffer).cast("B")
        self.page_map = PageMap(self.address, size)
        # A byte for each page, 1 if it may have been written since `newly_marked`, or before that.
        # The byte after them is 1 if any of them is: to look through all takes 40 µs where they are cold.
        marks = size // PAGE_SIZE + 1 if marked else 0
        self.marks, self.marked_before = bytearray(marks), bytearray(marks)
        self.closed = False

    def _map(self, address: int | None, flags: int) -> int:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags |= mmap.MAP_PRIVATE | MAP_NORESERVE | (mmap.MAP_ANONYMOUS if self.backing is None else 0)
        fd = -1 if self.backing is None else self.backing.fd
        result = _libc.mmap(address, self.size, protection, flags, fd, 0)
        if result in (None, MAP_FAILED):
            error = ctypes.get_errno()
            raise OSError(error, f"{self.size} bytes of guest RAM cannot be mapped: {os.strerror(error)}")
        return int(result)

    def prefer_large_pages(self) -> None:
        """Ask the host for large pages, which it provides at once as fast as a few small ones, where it has any.

        That lasts up to the first snapshot: memory that a file is mapped to has small ones.
        """
        _libc.madvise(self.address, self.size, MADV_HUGEPAGE)

    def rebase(self, backing: Backing) -> None:
        """Map another memory file in place of the present one; every byte not in that file is lost."""
        before = self.backing
        if backing is before:
            self._drop_changes()
            return
        self.backing = backing
        try:
            self._map(self.address, MAP_FIXED)
        except OSError:
            self.backing = before
            raise
        self._unmark()

    @property
    def marks_at(self) -> int:
        """The address of the marks in this process."""
        return ctypes.addressof(ctypes.c_ubyte.from_buffer(self.marks))

    def mark(self, start: int, length: int) -> None:
        """Note that bytes at an offset are about to be written."""
        if length and self.marks:
            first, last = start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1
            self.marks[first:last] = b"\1" * (last - first)
            self.marks[-1] = 1

    def newly_marked(self) -> list[tuple[int, int]]:
        """Return (start, end) offsets of marked pages that may have been written since this was asked for last."""
        if not self.marks[-1]:
            return []
        self.marks[-1] = 0
        runs = runs_of(self.marks)
        for first, last in runs:
            self.marked_before[first:last] = self.marks[first:last]
            self.marks[first:last] = bytes(last - first)
        self.marked_before[-1] = 1
        return [(first * PAGE_SIZE, last * PAGE_SIZE) for first, last in runs]

    def mark_again(self) -> None:
        """Let `newly_marked` return all pages that may have been written since the file was mapped."""
        if self.marks:
            for first, last in runs_of(self.marked_before):
                self.marks[first:last] = self.marked_before[first:last]
            self.marks[-1] = 1  # also where an interrupt has come before the pages that it speaks of were looked at

    def _unmark(self) -> None:
        """Nothing is written any longer."""
        for marks in (self.marks, self.marked_before):
            if marks and marks[-1]:
                marks[:] = bytes(len(marks))

    def _drop_changes(self) -> None:
        """Restore the content of the file: the effect of a new mapping, without making one."""
        self._unmark()
        if _libc.madvise(self.address, self.size, MADV_DONTNEED):
            self._map(self.address, MAP_FIXED)

    def freeze(self) -> Backing:
        """Return a memory file with the present content, zero pages left out, and map it from now on."""
        backing = Backing(self.name, self.size)
        run: list[bytes] = []
        begin = 0
        for offset in self.pages_in_use():
            page = bytes(self.view[offset : offset + PAGE_SIZE])
            if page == ZEROS:
                continue
            if offset != begin + len(run) * PAGE_SIZE:
                backing.write(begin, b"".join(run))
                run, begin = [], offset
            run.append(page)
        backing.write(begin, b"".join(run))
        self.rebase(backing)
        return backing

    def written(self) -> list[tuple[int, int]]:
        """Return (start, end) offsets of pages that may have been written since the file was mapped, or since `drop`.

        Only RAM that a snapshot has mapped a file for can tell.
        """
        if not self.marks:
            return self.page_map.private_copies()
        if not self.marks[-1] and not self.marked_before[-1]:
            return []
        marks = bytearray(self.marked_before if self.marked_before[-1] else len(self.marks))
        for first, last in runs_of(self.marks) if self.marks[-1] else ():
            marks[first:last] = self.marks[first:last]
        marks[-1] = 0
        return [(first * PAGE_SIZE, last * PAGE_SIZE) for first, last in runs_of(marks)]

    def drop(self, runs: list[tuple[int, int]]) -> None:
        """Make the pages that `written` has returned show the file's content again.

        Few are written once more, with that content.  They stay copies, which `written` returns again: to drop one and
        have the host make another at the next store takes longer than to copy a page many times.
        """
        size = 0
        for start, end in runs:
            size += end - start
        if size <= FEW and self.backing is not None:
            view, page = self.view, self.backing.page
            for start, end in runs:
                for offset in range(start, end, PAGE_SIZE):
                    view[offset : offset + PAGE_SIZE] = page(offset)
            self._unmark()
            return
        if len(runs) > MANY:
            self._drop_changes()
        else:
            self.drop_each(runs)

    def drop_each(self, runs: list[tuple[int, int]]) -> None:
        """Do the same, and keep all other pages mapped."""
        for start, end in runs:
            if _libc.madvise(self.address + start, end - start, MADV_DONTNEED):
                error = ctypes.get_errno()
                raise OSError(error, f"{end - start} bytes of guest RAM cannot be dropped: {os.strerror(error)}")
        self._unmark()

    def pages_in_use(self) -> Iterator[int]:
        """Yield offsets of pages that may hold something: mapped ones, and those of the file.

        A page that was never touched through this mapping is in the file only.
        """
        used = self.page_map.pages_in_use()
        for start, end in data_extents(self.backing.fd, self.size) if self.backing is not None else ():
            first, last = start // PAGE_SIZE, -(-end // PAGE_SIZE)
            used[first:last] = b"\1" * (last - first)
        position = used.find(1)
        while position >= 0:
            yield position * PAGE_SIZE
            position = used.find(1, position + 1)

    def close(self) -> None:
        """Unmap, as soon as no slice of the view is in use."""
        if not self.closed:
            self.closed = True
            self.view.release()
            del self.buffer
            del self.backing


ZEROS = bytes(PAGE_SIZE)


def data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    """Return (start, end) of the parts of a sparse file that hold data."""
    extents = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, SEEK_DATA)
        except OSError:
            break
        position = os.lseek(fd, start, SEEK_HOLE)
        extents.append((start, position))
    return extents


class UnbookedAccess(RuntimeError):
    """Policy has touched memory above 4 GiB without naming an account."""


class Ram:
    """Low RAM from physical 0 and high RAM from 4 GiB.

    High RAM holds the blocks of disks and nothing else.  Policy, the code that runs in a host call, may touch it only
    on an `Account`: the ledger counts such bytes beside those that the CPU moves.  Low memory needs no account, but may
    be given one; and code that reads the machine between host calls needs none.
    """

    def __init__(self, low: int, high: int) -> None:
        """Take sizes in bytes, multiples of 4096; `high` may be 0."""
        self.regions = [Region("low", 0, low)]
        if high:
            self.regions.append(Region("high", HIGH_MEMORY, high, marked=True))
            self.regions[1].prefer_large_pages()
        self.low = self.regions[0].view
        self.lent = LentViews(self.regions[-1].buffer, self.regions[-1].marks)  # of high memory, if any
        self._mark = self.regions[-1].mark
        self.low_size = low
        self.high_size = high
        self.touched: Counter[Account] = Counter()  # bytes, by whose account
        self.guarded = False  # a host call is being answered

    def __repr__(self) -> str:
        high = f", {self.high_size >> 20} MiB from {HIGH_MEMORY:#x}" if self.high_size else ""
        return f"<ram {self.low_size >> 20} MiB from 0{high}>"

    def view(self, physical: int, length: int, account: Account | None = None) -> memoryview:
        """Return `length` bytes of RAM at `physical`, and book them.

        A view of high memory has to be released before the next snapshot is taken or restored (`lent`).
        DmaError if they are not all in one region of RAM; UnbookedAccess for high memory in a host call and no account,
        or one that the ledger does not show, but for an observer's.
        """
        end = physical + length
        if physical >= 0 and end <= self.low_size and length >= 0:
            if account is not None:
                self.touched[account] += length
            return self.low[physical:end]
        view = self._view_high(physical, length, account)
        self._mark(physical - HIGH_MEMORY, length)
        return view

    def has(self, physical: int, length: int) -> bool:
        """Whether these bytes are all in one region of RAM."""
        within_high = physical >= HIGH_MEMORY and physical + length <= HIGH_MEMORY + self.high_size
        return length >= 0 and (0 <= physical <= self.low_size - length or within_high)

    def _view_high(self, physical: int, length: int, account: Account | None) -> memoryview:
        start = physical - HIGH_MEMORY
        if start >= 0 and start + length <= self.high_size and length >= 0:
            if self.guarded and account is not Account.OBSERVER and (account is None or account in NOT_BOOKED):
                raise UnbookedAccess(f"{length} bytes at {physical:#x} are disk blocks: say on whose account")
            if account is not None:
                self.touched[account] += length
            return self.lent.all[start : start + length]
        raise DmaError(physical, length)

    def read(self, physical: int, length: int, account: Account | None = None) -> bytes:
        """Return a copy of bytes of RAM; errors as `view`."""
        if physical < HIGH_MEMORY:
            return bytes(self.view(physical, length, account))
        return bytes(self._view_high(physical, length, account))

    def write(self, physical: int, data: bytes | memoryview, account: Account | None = None) -> None:
        """Write bytes of RAM; errors as `view`."""
        self.view(physical, len(data), account)[:] = data

    def u8(self, physical: int) -> int:
        """Return a byte of low RAM."""
        return self.view(physical, 1)[0]

    def u16(self, physical: int) -> int:
        """Return a 16-bit word of low RAM, little-endian."""
        return int.from_bytes(self.view(physical, 2), "little")

    def u32(self, physical: int) -> int:
        """Return a 32-bit word of low RAM, little-endian."""
        return int.from_bytes(self.view(physical, 4), "little")

    def u64(self, physical: int, account: Account | None = None) -> int:
        """Return a 64-bit word, little-endian; errors as `view`."""
        return int.from_bytes(self.read(physical, 8, account), "little")

    def put_u8(self, physical: int, value: int) -> None:
        """Write a byte of low RAM."""
        self.view(physical, 1)[0] = value

    def put_u16(self, physical: int, value: int) -> None:
        """Write a 16-bit word of low RAM, little-endian."""
        self.view(physical, 2)[:] = value.to_bytes(2, "little")

    def put_u32(self, physical: int, value: int) -> None:
        """Write a 32-bit word of low RAM, little-endian."""
        self.view(physical, 4)[:] = value.to_bytes(4, "little")

    def put_u64(self, physical: int, value: int, account: Account | None = None) -> None:
        """Write a 64-bit word, little-endian; errors as `view`."""
        self.view(physical, 8, account)[:] = value.to_bytes(8, "little")

    def close(self) -> None:
        """Give the memory back to the host."""
        if not self.regions[-1].closed:
            self.lent.close()
        for region in self.regions:
            region.close()
