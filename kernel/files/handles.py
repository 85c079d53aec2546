"""Open files: the handles of processes.

A process has a handle, a window on the file's data and the file's page (`kernel/abi/file.py`), from which it reads data
in memory without a system call.
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.limits import FILES_OF_PROCESS
from callgate.kernel.core.errors import CallerError, PolicyError
from callgate.kernel.core.records import Endpoints, OpenFile, Process
from callgate.kernel.file_data.mapping import FileMapping
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.window_pages import opened_file
from callgate.kernel.files.opening import FileOpening
from callgate.kernel.files.paths import resolve
from callgate.kernel.tasks.shares import Shares

OPEN_FRAMES = 2  # the file's page, and a page table for it


class Files:
    """OPEN and CLOSE."""

    def __init__(
        self,
        state: FilesState,
        endpoints: Endpoints,
        shares: Shares,
        opening: FileOpening,
        mapping: FileMapping,
        scratch: Callable[[], bool],
    ) -> None:
        """`scratch` says whether programs may write to file data in memory."""
        self.state = state
        self.endpoints = endpoints
        self.shares = shares
        self.opening = opening
        self.mapping = mapping
        self.scratch = scratch

    @property
    def objects(self) -> dict[int, FileObject]:
        """The file objects by number."""
        return self.state.objects

    async def open(
        self, process: Process, path: bytes, path_address: int, flags: OpenFlags
    ) -> tuple[int, OpenFile, FileObject]:
        """Open the file at an absolute path that also lies at kernel address `path_address`."""
        writable = OpenFlags.WRITE in flags
        endpoint, rest = resolve(self.endpoints, path)
        if endpoint is None:
            raise CallerError(ErrorCode.IS_DIRECTORY)
        self.shares.check_file(process)
        where = path_address + len(path) - len(rest), len(rest)
        file = await self.opening.open_object(endpoint, where, from_start=OpenFlags.FROM_START in flags)
        try:
            self.shares.check_file(process)  # other threads may have opened files meanwhile
            if writable and file.attributes & FileAttributes.READ_ONLY:
                raise CallerError(ErrorCode.READ_ONLY)
            if writable and not self.scratch():
                raise CallerError(ErrorCode.NO_SCRATCH)
            self.shares.check_frames(process, OPEN_FRAMES)
            opened = self.mapping.open(process, file, writable=writable)
        except PolicyError:
            self.opening.letting_go.close_object(file)
            raise
        handle = next(number for number in range(1, FILES_OF_PROCESS + 1) if number not in process.files)
        process.files[handle] = opened
        return handle, opened, file

    def close(self, process: Process, handle: int) -> None:
        """Close a handle; with the last one of the file its object is removed and the server is told to close it."""
        opened = opened_file(process, handle)
        del process.files[handle]
        file = self.state.objects[opened.object]
        self.mapping.close(process, opened, file)
        self.opening.letting_go.close_object(file)

    def close_all(self, process: Process) -> None:
        """Close every handle of a process that ends."""
        for handle in list(process.files):
            self.close(process, handle)
