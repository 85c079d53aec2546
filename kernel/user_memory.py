"""User memory as policy touches it: through the process's own page tables, with ring-3 rights.

Nothing is read or written that the process itself could not touch: each page must be present and user,
and writable for writes.  A page that demand paging would provide is asked for first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.address_space import ADDRESS
from callgate.kernel.errors import PolicyError
from callgate.kernel.machine.accounts import Account
from callgate.kernel.records import Process

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

NEEDED_READ = layout.PTE_PRESENT | layout.PTE_USER
NEEDED_WRITE = NEEDED_READ | layout.PTE_WRITABLE


class BadAddress(PolicyError):
    """A process named memory that it may not use so."""

    def __init__(self, address: int, *, write: bool) -> None:
        access = "write" if write else "read"
        super().__init__(ErrorCode.BAD_ADDRESS, f"bad address {address:#010x} for {access}")
        self.address = address
        self.write = write


class UserMemory:
    """Reading and writing of one process's memory; BadAddress where ring 3 would fault."""

    __slots__ = ("hosted", "kernel", "process")

    def __init__(self, kernel: Kernel, process: Process, *, hosted: bool = False) -> None:
        """Take the process; `hosted` if its own Python touches its memory, not the kernel's policy."""
        self.kernel = kernel
        self.process = process
        self.hosted = hosted

    def physical(self, address: int, *, write: bool = False) -> int:
        """Return the physical address of a byte of user memory."""
        needed = NEEDED_WRITE if write else NEEDED_READ
        if not 0 <= address < layout.USER_END:
            raise BadAddress(address, write=write)
        entry = self.kernel.tables.entry(self.process.pointers, address)
        if entry & needed != needed:
            self.kernel.faults.provide(self.process, address, write=write)
            entry = self.kernel.tables.entry(self.process.pointers, address)
            if entry & needed != needed:
                raise BadAddress(address, write=write)
        return (entry & ADDRESS) + (address & (PAGE_SIZE - 1))

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes from `address`."""
        ram = self.kernel.machine.ram
        return b"".join(
            ram.read(physical, size, self._account(physical, address))
            for physical, size in self._pieces(address, length, write=False)
        )

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; nothing is written if any page of it refuses."""
        pieces = self._pieces(address, len(data), write=True)
        done = 0
        for physical, size in pieces:
            self.kernel.tables.mark_dirty(self.process.pointers, address + done)
            self.kernel.machine.ram.write(physical, data[done : done + size], self._account(physical, address))
            done += size

    def _account(self, physical: int, address: int) -> Account | None:
        """Return on whose account a page is touched; None for low memory that is not a hosted server's."""
        if layout.USER_METADATA <= address < layout.USER_METADATA_END:
            return Account.METADATA  # also of a block that is not all the partition's, and has been copied for it
        if physical < HIGH_MEMORY:
            return Account.SERVER_MEMORY if self.hosted else None
        return Account.SERVER if self.hosted else Account.KERNEL

    def read_string(self, address: int, limit: int) -> bytes:
        """Return the bytes up to a zero, at most `limit` of them (BAD_ARGUMENT if there is no zero)."""
        data = b""
        while len(data) < limit:
            size = min(limit - len(data), PAGE_SIZE - address % PAGE_SIZE)
            piece = self.read(address, size)
            end = piece.find(0)
            if end >= 0:
                return data + piece[:end]
            data += piece
            address += size
        raise PolicyError(ErrorCode.BAD_ARGUMENT, "string without an end")

    def _pieces(self, address: int, length: int, *, write: bool) -> list[tuple[int, int]]:
        if self.hosted:
            self.kernel.hosted.touch(length)
        pieces = []
        while length > 0:
            size = min(length, PAGE_SIZE - address % PAGE_SIZE)
            pieces.append((self.physical(address, write=write), size))
            address += size
            length -= size
        return pieces
