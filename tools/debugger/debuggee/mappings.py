"""All that an address space maps, walked from its page-directory pointers as a CPU does (Intel SDM vol. 3, 4.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.cpu.paging import ADDRESS, NX
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine

Mapping = tuple[int, int, int, bool]  # linear, entry, bytes, large


def mappings(machine: Machine, pointers: int) -> Iterator[Mapping]:
    """Yield every page that a table of four page-directory pointers maps, by linear address.

    Its rights are those of all levels together.
    """
    ram = machine.ram

    def entries(table: int, count: int) -> tuple[int, ...]:
        try:
            return struct.unpack(f"<{count}Q", ram.read(table, 8 * count, Account.OBSERVER))
        except DmaError:
            return ()

    for high, pointer in enumerate(entries(pointers & 0xFFFF_FFE0, 4)):
        if not pointer & layout.PTE_PRESENT:
            continue
        for middle, directory in enumerate(entries(pointer & ADDRESS, 512)):
            linear = high << 30 | middle << 21
            if not directory & layout.PTE_PRESENT:
                continue
            if directory & layout.PTE_LARGE:
                yield linear, directory, layout.LARGE_PAGE_SIZE, True
                continue
            rights = directory & (layout.PTE_USER | layout.PTE_WRITABLE) | ~(layout.PTE_USER | layout.PTE_WRITABLE)
            for low, entry in enumerate(entries(directory & ADDRESS, 512)):
                if entry & layout.PTE_PRESENT:
                    yield linear | low << 12, entry & rights | directory & NX, PAGE_SIZE, False
