"""Which sectors of which disk a transfer by DMA has brought."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.tools.debugger.target import Target


class Read(NamedTuple):
    """A part of a read: `size` bytes from `offset` on of a disk's medium, to physical memory."""

    disk: int
    offset: int
    physical: int
    size: int
    retired: int


class Reads:
    """Notes what is read from the media of a system for as long as the context lasts."""

    def __init__(self, target: Target) -> None:
        self.machine = target.machine
        self.media = target.system.media if target.has_kernel else []
        self.found: list[Read] = []
        self.plain: list[tuple[object, Callable[[int, Sequence[memoryview]], None]]] = []

    def __enter__(self) -> Self:
        for disk, medium in enumerate(self.media):
            plain = medium.read_into
            self.plain.append((medium, plain))
            setattr(medium, "read_into", self._noted(disk, plain))  # noqa: B010 - a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for medium, _ in self.plain:
            delattr(medium, "read_into")

    def _noted(
        self, disk: int, plain: Callable[[int, Sequence[memoryview]], None]
    ) -> Callable[[int, Sequence[memoryview]], None]:
        def read_into(lba: int, views: Sequence[memoryview]) -> None:
            offset = lba * SECTOR_SIZE
            for view in views:
                physical = self._physical(view)
                if physical is not None:
                    self.found.append(Read(disk, offset, physical, len(view), self.machine.clock.retired))
                offset += len(view)
            plain(lba, views)

        return read_into

    def _physical(self, view: memoryview) -> int | None:
        """Return the physical address of a view of RAM; None for memory of the controller's own."""
        if not len(view) or view.readonly:
            return None
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        for region in self.machine.ram.regions:
            if region.address <= address < region.address + region.size:
                return region.base + address - region.address
        return None

    def at(self, physical: int) -> int:
        """Return how many instructions had retired when the bytes at a physical address were read; LookupError."""
        for read in reversed(self.found):
            if read.physical <= physical < read.physical + read.size:
                return read.retired
        raise LookupError(f"no read has brought {physical:#x}")

    def origin(self, physical: int) -> str:
        """Return where the bytes at a physical address come from, in words; "" if no read has brought them."""
        for read in reversed(self.found):
            if read.physical <= physical < read.physical + read.size:
                at = read.offset + physical - read.physical
                path = getattr(self.media[read.disk], "path", None)
                image = f" of {path.name}" if path is not None else ""
                return f"disk d{read.disk}, sector {at // SECTOR_SIZE}, byte {at % SECTOR_SIZE}: byte {at:,}{image}"
        return ""
