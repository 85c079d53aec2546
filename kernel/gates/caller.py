"""The memory of the caller of a system call: paths and strings that it passes, results that it receives."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import Layout
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import CARRY
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.files.paths import absolute
from callgate.kernel.files.reading import Reading
from callgate.kernel.memory.user_memory import BadAddress
from callgate.kernel.tasks.processes import Processes

PATH_PAGE = word(ThreadControlBlock, "path_page")
PATH_LIMIT = MESSAGE_DATA_SIZE - 1  # bytes of a path, as copy_path has it


class Caller:
    """Reads and writes a caller's memory; pages of files that are not mapped are fetched."""

    def __init__(self, guest: Guest, processes: Processes, reading: Reading) -> None:
        self.guest = guest
        self.processes = processes
        self.reading = reading

    def path(self, thread: Thread, frame: ControlBlock) -> tuple[bytes, int]:
        """Return the path that the gate has copied, made absolute in place, and its kernel linear address.

        BAD_ARGUMENT if it holds a zero byte, NAME_TOO_LONG beyond `PATH_LIMIT` bytes.
        """
        path, names, address = self.path_and_names(thread, frame)
        if names:
            raise CallerError(ErrorCode.BAD_ARGUMENT, "a path holds no zero byte")
        return path, address

    def path_and_names(self, thread: Thread, frame: ControlBlock) -> tuple[bytes, bytes, int]:
        """As `path`, but names may follow the path, each after a zero byte: they are the second value.

        They lie after the path, and NAME_TOO_LONG is for all of it.
        """
        address = self.guest.words[thread.tcb + PATH_PAGE]
        path, zero, names = bytes(self.guest.ram.view(address - KERNEL_BASE, frame["ecx"])).partition(b"\0")
        names = zero + names
        if path and not path.startswith(b"/") and thread.process.directory:
            path = absolute(thread.process.directory, path)
            size = len(path) + len(names)
            if size > PATH_LIMIT:
                raise CallerError(ErrorCode.NAME_TOO_LONG)
            self.guest.ram.view(address - KERNEL_BASE, size)[:] = path + names
        return path, names, address

    async def string(self, process: Process, address: int, limit: int) -> bytes:
        """Return the process's bytes from `address` to a zero; pages of files that are not mapped are fetched.

        BAD_ARGUMENT without a zero in `limit` bytes, BadAddress, or the error of a page that cannot be fetched.
        """
        while True:
            try:
                return self.processes.memory_of(process).read_string(address, limit)
            except BadAddress as error:
                if not await self.reading.fault(process, error.address):
                    raise

    def give(self, process: Process, address: int, data: Layout | bytes) -> Coroutine[Any, Any, None] | None:
        """Write a result into the process's memory; BadAddress if it cannot be written.

        If a page of a file has to be fetched first, return a coroutine, which the caller must await, and which raises
        the errors of that page.
        """
        try:
            self.processes.memory_of(process).write(address, bytes(data))
        except BadAddress as error:
            if self.reading.at(process, error.address) is None:
                raise
            return self._give_later(process, error, address, data)
        return None

    async def _give_later(self, process: Process, refused: BadAddress, address: int, data: Layout | bytes) -> None:
        """Fetch missing pages of files, one at a time, until all of the result can be written."""
        missing: BadAddress | None = refused
        while missing is not None:
            await self._ask_to_write(process, missing)
            try:
                self.processes.memory_of(process).write(address, bytes(data))
                missing = None
            except BadAddress as error:
                missing = error

    async def _ask_to_write(self, process: Process, missing: BadAddress) -> None:
        """Have the page of a file at a bad address mapped writable; raise the error if that is impossible."""
        found = self.reading.at(process, missing.address)
        if found is None:
            raise missing
        if not found[0].writable or self.reading.mapping.tables.entry(process.pointers, missing.address):
            self.reading.mapping.writing.allow(process, *found, missing.address)
        elif not await self.reading.fault(process, missing.address):
            raise missing


def fail(frame: ControlBlock, code: ErrorCode) -> None:
    """Set CF and an error code in a caller's registers."""
    frame["eax"] = code
    frame["eflags"] |= CARRY
