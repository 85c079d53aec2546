"""Memory by linear address, in the address space of a process, as ring 0 sees it.

The page tables are walked here, so that no look changes CR2 or an accessed bit.  The registers of devices are not
memory: reading one may change it, so such an address counts as not mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine import Machine
    from callgate.tools.debugger.debuggee.world import World

LINEAR_END = 1 << 32


class Memory:
    """The linear memory of one target's processes."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world

    def physical(self, process: Process, linear: int) -> int | None:
        """Return where a linear address lies; None if it is not mapped."""
        return self.world.physical(process, linear) if 0 <= linear < LINEAR_END else None

    def pieces(self, process: Process, linear: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield (linear, physical, bytes) for each page of a range, up to the first that is not mapped to RAM."""
        end = min(linear + length, LINEAR_END)
        while linear < end:
            size = min(end - linear, PAGE_SIZE - linear % PAGE_SIZE)
            physical = self.physical(process, linear)
            if physical is None or not self._is_ram(physical, size):
                return
            yield linear, physical, size
            linear += size

    def read(self, process: Process, linear: int, length: int) -> bytes:
        """Return bytes from a linear address up to the first that is not mapped, at most `length`."""
        ram = self.machine.ram
        pieces = self.pieces(process, linear, length)
        return b"".join(ram.read(physical, size, Account.OBSERVER) for _, physical, size in pieces)

    def write(self, process: Process, linear: int, data: bytes) -> bool:
        """Write bytes, read-only pages and code included; False, and nothing is written, if not all are mapped."""
        pieces = list(self.pieces(process, linear, len(data)))
        if sum(size for _, _, size in pieces) != len(data):
            return False
        for at, physical, size in pieces:
            self.machine.write_physical(physical, data[at - linear : at - linear + size])
        self.machine.flush_tlb()  # it may have been a page table
        return True

    def read_physical(self, physical: int, length: int) -> bytes:
        """Return bytes from a physical address up to the first that is not RAM, at most `length`."""
        ram, data = self.machine.ram, bytearray()
        while len(data) < length:
            at = physical + len(data)
            size = min(length - len(data), PAGE_SIZE - at % PAGE_SIZE)
            if not self._is_ram(at, size):
                break
            data += ram.read(at, size, Account.OBSERVER)
        return bytes(data)

    def write_physical(self, physical: int, data: bytes) -> bool:
        """Write bytes to physical memory; False, and nothing is written, if not all of it is RAM."""
        if not self._is_ram(physical, len(data)):
            return False
        self.machine.write_physical(physical, data)
        self.machine.flush_tlb()  # it may have been a page table
        return True

    def _is_ram(self, physical: int, size: int) -> bool:
        return self.machine.ram.has(physical, size)
