"""The memory bus: which device answers which physical page outside RAM, and what is read where none does.

The engine ends a run at a physical address that it knows nothing of, and reads a table of pages there as zeros.  So
all of the physical address space that is not RAM is given to it as one device, this bus: an access is answered by the
device whose registers it names, and otherwise by none, as on a PC: loads and page-table walks return ones, stores are
lost, and an instruction fetched there is FF FF, which is #UD.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT
from callgate.kernel.machine.memory.ram import Ram

Load = Callable[[int, int], int]
Store = Callable[[int, int, int], None]


class Window(NamedTuple):
    """Registers from a physical address on; `load(address, size)`, `store(address, size, value)`."""

    base: int
    size: int
    load: Load
    store: Store


class MemoryBus:
    """The windows of the devices, by page."""

    def __init__(self, ram: Ram, limit: int) -> None:
        """Cover all addresses below the physical address `limit` that are not RAM."""
        self.ram = ram
        self.limit = limit
        self.windows: dict[int, Window] = {}
        self.refuses: Callable[[], bool] = lambda: False  # whether the access will be made again, and is not to be now

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield physical base and size of every range that is not RAM."""
        base = 0
        for region in self.ram.regions:
            if region.base > base:
                yield base, region.base - base
            base = region.base + region.size
        if base < self.limit:
            yield base, self.limit - base

    def claim(self, base: int, size: int, load: Load, store: Store) -> None:
        """Give a device `size` bytes of registers from a page on; ValueError if they are not free."""
        pages = range(base >> PAGE_SHIFT, (base + size - 1 >> PAGE_SHIFT) + 1)
        if base % (1 << PAGE_SHIFT) or not any(
            start <= base and base + size <= start + length for start, length in self.holes()
        ):
            raise ValueError(f"registers at {base:#x}, {size} bytes, do not begin on a page outside RAM")
        for page in pages:
            if page in self.windows:
                raise ValueError(f"registers at {base:#x}, {size} bytes, meet those at {self.windows[page].base:#x}")
        self.windows.update(dict.fromkeys(pages, Window(base, size, load, store)))

    def read(self, address: int, size: int) -> int:
        """Return the value of a load of `size` bytes at a physical address."""
        window = self.windows.get(address >> PAGE_SHIFT)
        if window is None or address + size > window.base + window.size:
            return (1 << 8 * size) - 1
        if self.refuses():
            return 0
        return window.load(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Carry out a store of `size` bytes at a physical address."""
        window = self.windows.get(address >> PAGE_SHIFT)
        if window is not None and address + size <= window.base + window.size and not self.refuses():
            window.store(address, size, value)
