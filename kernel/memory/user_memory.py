"""User memory as policy touches it: through the process's own page tables, with ring-3 rights.

Nothing is read or written that the process itself could not touch: each page must be present and user,
and writable for writes.  A page that demand paging would provide is asked for first.
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.records import Process
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.ram import Ram
from callgate.kernel.memory.page_tables import ADDRESS, PageTables

NEEDED_READ = layout.PTE_PRESENT | layout.PTE_USER
NEEDED_WRITE = NEEDED_READ | layout.PTE_WRITABLE


class BadAddress(CallerError):
    """A process named memory that it may not use in this way."""

    def __init__(self, address: int, *, write: bool) -> None:
        access = "write" if write else "read"
        super().__init__(ErrorCode.BAD_ADDRESS, f"bad address {address:#010x} for {access}")
        self.address = address
        self.write = write


class UserMemory:
    """Reading and writing of one process's memory; BadAddress where ring 3 would fault."""

    __slots__ = ("process", "provide", "ram", "tables", "touch")

    def __init__(
        self,
        ram: Ram,
        tables: PageTables,
        process: Process,
        provide: Callable[[Process, int], bool],
        touch: Callable[[int], None] | None = None,
    ) -> None:
        """`provide` gives the process a page on demand, if it may have one there.

        If its own Python touches its memory, and not the kernel's policy, `touch` is called for each access with its
        bytes.
        """
        self.ram = ram
        self.tables = tables
        self.process = process
        self.provide = provide
        self.touch = touch

    def physical(self, address: int, *, write: bool = False) -> int:
        """Return the physical address of a byte of user memory."""
        needed = NEEDED_WRITE if write else NEEDED_READ
        if not 0 <= address < layout.USER_END:
            raise BadAddress(address, write=write)
        entry = self.tables.entry(self.process.pointers, address)
        if entry & needed != needed:
            self.provide(self.process, address)
            entry = self.tables.entry(self.process.pointers, address)
            if entry & needed != needed:
                raise BadAddress(address, write=write)
        return (entry & ADDRESS) + (address & (PAGE_SIZE - 1))

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes from `address`."""
        return b"".join(
            self.ram.read(physical, size, self._account(physical, address))
            for physical, size in self._pieces(address, length, write=False)
        )

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; nothing is written if any page of it refuses."""
        pieces = self._pieces(address, len(data), write=True)
        done = 0
        for physical, size in pieces:
            self.tables.mark_dirty(self.process.pointers, address + done)
            self.ram.write(physical, data[done : done + size], self._account(physical, address))
            done += size

    def _account(self, physical: int, address: int) -> Account | None:
        """Return on whose account a page is touched; None for low memory that is not a hosted server's."""
        if layout.USER_METADATA <= address < layout.USER_METADATA_END:
            return Account.METADATA  # also for a copied block, of which not all belongs to the partition
        if physical < HIGH_MEMORY:
            return Account.SERVER_MEMORY if self.touch else None
        return Account.SERVER if self.touch else Account.KERNEL

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
        raise CallerError(ErrorCode.BAD_ARGUMENT, "string without an end")

    def _pieces(self, address: int, length: int, *, write: bool) -> list[tuple[int, int]]:
        if self.touch is not None:
            self.touch(length)
        pieces = []
        while length > 0:
            size = min(length, PAGE_SIZE - address % PAGE_SIZE)
            pieces.append((self.physical(address, write=write), size))
            address += size
            length -= size
        return pieces
