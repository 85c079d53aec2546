"""Page tables as policy edits them: user spaces of three GiB, one kernel space shared by all.

Three levels of PAE (Intel SDM vol. 3, 4.4): four pointers, directories of 2 MiB entries, tables of
4 KiB entries.  Every entry is written through `put_entry`, which counts it in the ledger.  A user
space's three directories exist from the start, because the CPU may keep the pointers in registers from
one CR3 load to the next.
"""

from array import array
from collections.abc import Callable

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.memory import KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.memory.frames import FramePool

NX = layout.PTE_NX_HIGH << 32
ADDRESS = 0x000F_FFFF_FFFF_F000
USER_DATA = layout.PTE_PRESENT | layout.PTE_USER | layout.PTE_WRITABLE | NX
USER_READ = layout.PTE_PRESENT | layout.PTE_USER | NX
USER_CODE = layout.PTE_PRESENT | layout.PTE_USER
KERNEL_DATA = layout.PTE_PRESENT | layout.PTE_WRITABLE | NX
KERNEL_CODE = layout.PTE_PRESENT
KERNEL_READ = layout.PTE_PRESENT | NX
KERNEL_DEVICE = KERNEL_DATA | layout.PTE_CACHE_DISABLE | layout.PTE_WRITE_THROUGH
TABLE = layout.PTE_PRESENT | layout.PTE_WRITABLE | layout.PTE_USER


@record(eq=True)
class KernelSpace:
    """Frames that every space shares: the page directory that is entry 3 of its pointers, and a page of zeros."""

    directory: int
    zeros: int = 0  # stands for holes of files; 0: not needed yet


class PageTables:
    """Editing of page tables in low memory."""

    def __init__(self, quads: memoryview, frames: FramePool, count_writes: Callable[[int], None]) -> None:
        """Take low memory as 64-bit words, the pool for tables, and the ledger's counter."""
        self.quads = quads
        self.frames = frames
        self.count_writes = count_writes

    def put_entry(self, address: int, value: int) -> None:
        """Write the entry at physical `address`."""
        self.count_writes(1)
        self.quads[address >> 3] = value

    def new_table(self) -> int:
        """Return the frame of an empty table."""
        frame = self.frames.allocate()
        self.clear(frame)
        return frame

    def clear(self, frame: int) -> None:
        """Fill a low frame with zeros."""
        self.quads[frame >> 3 : (frame + PAGE_SIZE) >> 3] = EMPTY

    def new_space(self, kernel: KernelSpace) -> tuple[int, list[int]]:
        """Return the pointers' frame of an empty user space, and all its frames."""
        pointers, *directories = self.frames.allocate_several(4)
        for frame in (pointers, *directories):
            self.clear(frame)
        for index, directory in enumerate(directories):
            self.put_entry(pointers + index * 8, directory | layout.PTE_PRESENT)
        self.put_entry(pointers + 3 * 8, kernel.directory | layout.PTE_PRESENT)
        return pointers, [pointers, *directories]

    def directory_of(self, pointers: int, linear: int) -> int:
        """Return the frame of the directory that covers `linear`."""
        entry = self.quads[(pointers >> 3) + (linear >> 30)]
        return int(entry & ADDRESS)

    def table_of(self, directory: int, linear: int, made: list[int] | None) -> int | None:
        """Return the frame of the table that covers `linear`; make it, and note it in `made`, if allowed."""
        slot = directory + (linear >> 21 & 0x1FF) * 8
        entry = self.quads[slot >> 3]
        if entry & layout.PTE_PRESENT:
            return int(entry & ADDRESS)
        if made is None:
            return None
        table = self.new_table()
        made.append(table)
        self.put_entry(slot, table | TABLE)
        return table

    def entry_address(self, pointers: int, linear: int, made: list[int] | None = None) -> int | None:
        """Return the physical address of the 4 KiB entry for `linear`, or None if its table is missing."""
        table = self.table_of(self.directory_of(pointers, linear), linear, made)
        return None if table is None else table + (linear >> 12 & 0x1FF) * 8

    def map(self, pointers: int, linear: int, frame: int, flags: int, made: list[int]) -> None:
        """Map one page; tables that had to be made are appended to `made`."""
        address = self.entry_address(pointers, linear, made)
        assert address is not None
        self.put_entry(address, frame | flags)

    def map_run(self, pointers: int, linear: int, frames: list[int], flags: int, made: list[int]) -> None:
        """Map consecutive pages: as `map` for each, a table at a time."""
        at = 0
        while at < len(frames):
            address = self.entry_address(pointers, linear + at * PAGE_SIZE, made)
            assert address is not None
            first = address >> 3
            count = min(len(frames) - at, TABLE_ENTRIES - first % TABLE_ENTRIES)
            entries = array("Q", map(flags.__or__, frames[at : at + count]))
            self.quads[first : first + count] = memoryview(entries)
            self.count_writes(count)
            at += count

    def unmap_run(self, pointers: int, linear: int, count: int) -> None:
        """Unmap consecutive pages, mapped or not; the caller flushes the TLB."""
        at = 0
        while at < count:
            address = self.entry_address(pointers, linear + at * PAGE_SIZE)
            page = (linear >> 12) + at
            size = min(count - at, TABLE_ENTRIES - page % TABLE_ENTRIES)
            if address is not None:
                first = address >> 3
                self.quads[first : first + size] = EMPTY[:size]
                self.count_writes(size)
            at += size

    def unmap(self, pointers: int, linear: int) -> int:
        """Unmap one page; return the entry as it was (0 if there was none).

        The caller flushes the TLB: INVLPG by machine code, or a CR3 load before the space runs again.
        """
        address = self.entry_address(pointers, linear)
        if address is None:
            return 0
        entry = int(self.quads[address >> 3])
        if entry:
            self.put_entry(address, 0)
        return entry

    def entry(self, pointers: int, linear: int) -> int:
        """Return the 4 KiB entry for `linear`, 0 if there is none."""
        address = self.entry_address(pointers, linear)
        return 0 if address is None else int(self.quads[address >> 3])

    def mark_dirty(self, pointers: int, linear: int) -> None:
        """Note in the entry for `linear`, which is present, that its page is written to, as the CPU would."""
        address = self.entry_address(pointers, linear)
        assert address is not None
        self.quads[address >> 3] |= layout.PTE_ACCESSED | layout.PTE_DIRTY

    def make_kernel_space(self, space: KernelSpace, image: list[tuple[int, int, int]], low_memory: int) -> None:
        """Build the shared directory: all low memory at KERNEL_BASE, the image page by page.

        `image` lists (linear, bytes, flags) of the kernel's sections; memory that shares a 2 MiB page with them is
        mapped in 4 KiB pages, all the rest in large ones.
        """
        space.directory = self.new_table()
        flags_of: dict[int, int] = {}
        for linear, length, flags in image:
            for page in range(linear & -PAGE_SIZE, linear + length, PAGE_SIZE):
                flags_of[page] = flags
        small = {page & -LARGE_PAGE_SIZE for page in flags_of}
        for physical in range(0, low_memory, LARGE_PAGE_SIZE):
            linear = KERNEL_BASE + physical
            if linear in small:
                self._map_small(space, linear, physical, flags_of)
            else:
                self.put_entry(
                    space.directory + (linear >> 21 & 0x1FF) * 8,
                    physical | KERNEL_DATA | layout.PTE_LARGE | layout.PTE_GLOBAL,
                )

    def _map_small(self, space: KernelSpace, linear: int, physical: int, flags_of: dict[int, int]) -> None:
        """Map 2 MiB in 4 KiB pages: a whole table."""
        first = self.kernel_entry_address(space, linear) >> 3
        entries = [
            physical + offset | flags_of.get(linear + offset, KERNEL_DATA) | layout.PTE_GLOBAL
            for offset in range(0, LARGE_PAGE_SIZE, PAGE_SIZE)
        ]
        self.quads[first : first + TABLE_ENTRIES] = memoryview(array("Q", entries))
        self.count_writes(TABLE_ENTRIES)

    def map_kernel(self, space: KernelSpace, linear: int, physical: int, flags: int) -> None:
        """Map one kernel page, in every space at once."""
        table = self.table_of(space.directory, linear, [])
        assert table is not None
        self.put_entry(table + (linear >> 12 & 0x1FF) * 8, physical | flags)

    def kernel_entry_address(self, space: KernelSpace, linear: int) -> int:
        """Return the physical address of the entry of a kernel page, making its table if need be."""
        table = self.table_of(space.directory, linear, [])
        assert table is not None
        return table + (linear >> 12 & 0x1FF) * 8


EMPTY = memoryview(bytes(PAGE_SIZE)).cast("Q")
TABLE_ENTRIES = PAGE_SIZE // 8
