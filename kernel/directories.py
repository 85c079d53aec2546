"""Locked directories: the server's pages, mapped read-only into the process that reads them.

The root directory has no server: policy writes its page, one entry a volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import DirectoryEntry, DirectoryPage, FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.errors import PolicyError
from callgate.kernel.state import PartitionState, Process
from callgate.kernel.windows import Source

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

LOCKS_LIMIT = 64


@dataclass(slots=True)
class DirectoryLock:
    """A locked directory of one process; `partition` is -1 for the root directory."""

    partition: int
    server_lock: int
    window: int
    pages: int
    entries: int
    version: int


class Directories:
    """LOCK_DIRECTORY and UNLOCK_DIRECTORY."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    async def lock(self, process: Process, path: bytes, path_address: int) -> tuple[int, DirectoryLock]:
        """Lock the directory at an absolute path that also lies at kernel address `path_address`."""
        if len(process.locks) >= LOCKS_LIMIT:
            raise PolicyError(ErrorCode.NO_RESOURCES)
        partition, rest = self.kernel.volumes.resolve(path)
        if partition is None:
            lock = self._lock_root(process)
        else:
            data = (path_address + len(path) - len(rest), len(rest))
            lock = await self._lock_at_server(process, partition, data)
        number = next(number for number in range(1, LOCKS_LIMIT + 1) if number not in process.locks)
        process.locks[number] = lock
        return number, lock

    async def unlock(self, process: Process, number: int) -> None:
        """Unmap a locked directory and tell the server."""
        lock = process.locks.pop(number, None)
        if lock is None:
            raise PolicyError(ErrorCode.BAD_HANDLE)
        self.kernel.windows.close(process, process.windows[lock.window])
        await self.unlock_at_server(lock.partition, lock.server_lock)

    async def unlock_all(self, process: Process) -> None:
        """Unlock every directory of a process that ends; what its server says no longer matters."""
        for number in list(process.locks):
            try:
                await self.unlock(process, number)
            except PolicyError as error:
                self.kernel.log(f"{process.name}: unlocking a directory: {error}")

    async def unlock_at_server(self, number: int, server_lock: int) -> None:
        """Tell the server that one lock of a directory version is gone."""
        partition = self.kernel.state.partitions.get(number)
        if partition is not None and not partition.dead:
            reply = await self.kernel.requests.make(partition, Operation.UNLOCK_DIRECTORY, edx=server_lock)
            await reply.finish()

    async def _lock_at_server(
        self, process: Process, partition: PartitionState, data: tuple[int, int]
    ) -> DirectoryLock:
        reply = await self.kernel.requests.make(partition, Operation.LOCK_DIRECTORY, data=data)
        registers = reply.registers
        frames, pins = await reply.take_pages()
        try:
            if not frames:
                raise PolicyError(ErrorCode.BAD_REPLY)
            window = self.kernel.windows.open(process, "directory", Source(frames, pins))
        except PolicyError:
            await self.unlock_at_server(partition.number, registers.edx)
            raise
        return DirectoryLock(partition.number, registers.edx, window.address, len(frames), registers.edi, registers.ebx)

    def _lock_root(self, process: Process) -> DirectoryLock:
        names = [p.name for p in self.kernel.state.partitions.values() if not p.hidden and not p.dead]
        frame = self.kernel.low.allocate()
        self.kernel.machine.ram.view(frame, PAGE_SIZE)[:] = root_page(names)
        window = self.kernel.windows.open(process, "directory", Source([frame], [], [frame]))
        return DirectoryLock(-1, 0, window.address, 1, len(names), 0)


def root_page(names: list[str]) -> bytes:
    """Return the directory page that lists the volumes."""
    records = b"".join(directory_record(name.encode()) for name in names)
    header = DirectoryPage(len(names), size_of(DirectoryPage) + len(records), 0, 0)
    return (bytes(header) + records).ljust(PAGE_SIZE, b"\0")


def directory_record(name: bytes) -> bytes:
    """Return the entry of a directory called `name`."""
    length = -(-(size_of(DirectoryEntry) + len(name)) // 8) * 8
    entry = DirectoryEntry(length, len(name), FileAttributes.DIRECTORY | FileAttributes.READ_ONLY, 0, 0, 0)
    return (bytes(entry) + name).ljust(length, b"\0")
