"""The facts with which `Kernel.check` compares the records: guest memory, by a page walker and decoder of its own.

No manager is asked here.  A space is walked from its page-directory pointers as the CPU would
(Intel SDM vol. 3, 4.4), descriptors are read from where GDTR says, a thread's place from its kernel stack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from callgate.kernel.abi.boot import BootInformation
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import (
    BOOT_INFORMATION,
    KERNEL_BASE,
    LARGE_PAGE_SIZE,
    PAGE_SIZE,
    PTE_LARGE,
    PTE_PRESENT,
    PTE_USER,
    PTE_WRITABLE,
)
from callgate.kernel.abi.selectors import GDT_ENTRIES
from callgate.kernel.abi.thread import KERNEL_STACK_SIZE, TCB_SIZE, ThreadControlBlock
from callgate.kernel.core.records import Thread

if TYPE_CHECKING:
    from callgate.kernel.file_data.spans import Span
    from callgate.kernel.kernel import Kernel

ADDRESS = 0x000F_FFFF_FFFF_F000  # bits 51 to 12 of an entry
NO_EXECUTE = 1 << 63
RIGHTS = PTE_USER | PTE_WRITABLE | NO_EXECUTE
ENTRIES = 512
WORD = 4
TCB_ESP = offset_of(ThreadControlBlock, "esp") // WORD
POINTERS = offset_of(BootInformation, "page_directory_pointers")


@dataclass(frozen=True, slots=True)
class Page:
    """A mapped page of 4 KiB: the rights that all levels together give."""

    linear: int
    frame: int
    user: bool
    writable: bool
    executable: bool


@dataclass(slots=True)
class Space:
    """The tables and pages below one page-directory-pointer table."""

    name: str
    tables: list[int] = field(default_factory=list)  # frames of pointers, directories and tables
    pages: list[Page] = field(default_factory=list)
    for_ring_3: list[Page] = field(default_factory=list)  # those of them that ring 3 may use


@lru_cache(maxsize=1024)
def _present(table: bytes) -> tuple[tuple[int, int], ...]:
    entries = struct.unpack(f"<{len(table) // 8}Q", table)  # shorter at the end of memory
    return tuple((index, entry) for index, entry in enumerate(entries) if entry & PTE_PRESENT)


# From one check to the next few tables change, and the direct map's never do.
@lru_cache(maxsize=1024)
def _pages(table: bytes, directory_rights: int, base: int) -> tuple[tuple[Page, ...], tuple[Page, ...]]:
    """Return the pages of a table, and those of them that ring 3 may use."""
    pages = tuple(
        Page(base + slot * PAGE_SIZE, entry & ADDRESS, *rights_of(entry & RIGHTS, directory_rights))
        for slot, entry in _present(table)
    )
    return pages, tuple(page for page in pages if page.user)


class Facts:
    """One reading of a machine that stands between two instructions; made anew for each check."""

    def __init__(self, kernel: Kernel, transfers_elsewhere: list[str]) -> None:
        """Take the contradictions of the rule of DMA among the transfers up to now, as text (`DmaWatch`)."""
        self.kernel = kernel
        self.transfers_elsewhere = transfers_elsewhere
        self.state = kernel.state
        self.words = kernel.guest.words
        self.quads = kernel.guest.quads

    @cached_property
    def quiescent(self) -> bool:
        """Whether no policy is under way, which may hold frames and locks that no record names."""
        return not self.kernel.coroutines.alive

    @cached_property
    def spans(self) -> list[Span]:
        """Every span: those of open files, and those that are on their way."""
        spans = [span for file in self.kernel.files.objects.values() for span in file.spans]
        spans += [span for _, span in self.kernel.state.files.waiting.values()]
        return list({id(span): span for span in spans}.values())

    # Page tables.

    @cached_property
    def kernel_space(self) -> Space:
        """The half that all processes share, from its directory, in 4 KiB pages; large pages are the direct map."""
        space = Space("the kernel", [self.state.space.directory])
        self._walk_directory(space, self.state.space.directory, KERNEL_BASE)
        return space

    @cached_property
    def spaces(self) -> list[Space]:
        """What ring 3 of each process can reach; the shared directory is in `kernel_space`."""
        return [
            self._walk(f"process {process.number} ({process.name})", process.pointers)
            for process in self.state.tasks.processes.values()
        ]

    @cached_property
    def boot_tables(self) -> list[int]:
        """The frames of the loader's page tables, which are loaded until the first thread runs."""
        pointers = self.words[(BOOT_INFORMATION + POINTERS) // WORD]
        return [pointers, *(int(self.quads[(pointers >> 3) + index] & ADDRESS) for index in range(3))]

    def _walk(self, name: str, pointers: int) -> Space:
        space = Space(name, [pointers])
        for index in range(4):
            entry = int(self.quads[(pointers >> 3) + index])
            directory = entry & ADDRESS
            if entry & PTE_PRESENT and directory != self.state.space.directory:
                space.tables.append(directory)
                self._walk_directory(space, directory, index << 30)
        return space

    def _walk_directory(self, space: Space, directory: int, base: int) -> None:
        for slot, entry in self.present(directory):
            linear = base + slot * LARGE_PAGE_SIZE
            if not entry & PTE_LARGE:
                space.tables.append(entry & ADDRESS)
                pages, for_ring_3 = _pages(self._table(entry & ADDRESS), entry & RIGHTS, linear)
                space.pages += pages
                space.for_ring_3 += for_ring_3
            elif entry & PTE_USER:
                rights, frame = rights_of(entry, entry), entry & ADDRESS
                for offset in range(0, LARGE_PAGE_SIZE, PAGE_SIZE):
                    page = Page(linear + offset, frame + offset, *rights)
                    space.pages.append(page)
                    space.for_ring_3 += [page] if page.user else []

    def present(self, table: int) -> tuple[tuple[int, int], ...]:
        """Return (index, entry) of the present entries of a table in low memory; none outside memory."""
        return _present(self._table(table))

    def _table(self, table: int) -> bytes:
        return self.quads[table >> 3 : (table >> 3) + ENTRIES].tobytes()

    # Descriptors.

    @cached_property
    def descriptors(self) -> dict[int, int]:
        """The descriptors of the GDT that are not empty, by index."""
        return {index: descriptor for index, descriptor in enumerate(self.gdt) if descriptor}

    @cached_property
    def gdt(self) -> list[int]:
        """The descriptors of the GDT, by index."""
        base, _ = self.kernel.machine.cpu.table("gdtr")
        first = (base - KERNEL_BASE) >> 3
        return self.quads[first : first + GDT_ENTRIES].tolist()

    # Threads.

    def stack_word(self, thread: Thread, linear: int) -> int:
        """Return a word of a thread's kernel stack, found through the page tables."""
        frame = self.stack_pages[linear & -PAGE_SIZE]
        return int(self.words[(frame + linear % PAGE_SIZE) // WORD])

    @cached_property
    def stack_pages(self) -> dict[int, int]:
        """Frames of kernel space by linear address, the image and the direct map's small pages included."""
        return {page.linear: page.frame for page in self.kernel_space.pages}

    def stack_words(self, thread: Thread) -> Iterator[int]:
        """Yield the words of a thread's kernel stack now, from its ESP up; EIP first if it runs in ring 0."""
        top, cpu = thread.stack, self.kernel.machine.cpu
        if thread is self.kernel.scheduler.running:
            if cpu.cpl == 3:
                return
            yield cpu.eip
            esp = cpu.esp
        else:
            esp = int(self.words[thread.tcb + TCB_ESP])
        bottom = top + TCB_SIZE - KERNEL_STACK_SIZE
        for linear in range(max(esp, bottom), top, WORD):
            yield self.stack_word(thread, linear)

    def within(self, thread: Thread, first: int, behind: int) -> bool:
        """Whether a thread is in the kernel's code from `first` up to `behind`, or has been interrupted or calls there.

        A register of ring 3 that was saved may look like it: what depends on it may be lenient, never strict.
        """
        return any(first <= word < behind for word in self.stack_words(thread))


def rights_of(entry: int, directory_entry: int) -> tuple[bool, bool, bool]:
    """Return (user, writable, executable): the rights that both levels give (SDM vol. 3, 4.6)."""
    both = entry & directory_entry
    return bool(both & PTE_USER), bool(both & PTE_WRITABLE), not (entry | directory_entry) & NO_EXECUTE


assert size_of(ThreadControlBlock) == TCB_SIZE
