"""System calls about files and directories."""

from __future__ import annotations

from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.memory import USER_END
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.records import Thread
from callgate.kernel.files.directories import Directories
from callgate.kernel.files.handles import Files
from callgate.kernel.files.reading import Reading
from callgate.kernel.gates.caller import Caller
from callgate.kernel.gates.system_calls import Handler

DIRECTORY_LIMIT = 511  # bytes of a current directory, as the shell has it


class FileCalls:
    """OPEN to READ_LINK."""

    def __init__(self, caller: Caller, files: Files, reading: Reading, directories: Directories) -> None:
        self.caller = caller
        self.files = files
        self.reading = reading
        self.directories = directories

    @property
    def table(self) -> dict[int, Handler]:
        """The calls and what answers them."""
        return {
            SystemCall.LOCK_DIRECTORY: self.lock_directory,
            SystemCall.UNLOCK_DIRECTORY: self.unlock_directory,
            SystemCall.OPEN: self.open,
            SystemCall.CLOSE: self.close,
            SystemCall.MAP_FILE: self.map_file,
            SystemCall.FILE_HANDLER: self.file_handler,
            SystemCall.SET_DIRECTORY: self.set_directory,
            SystemCall.READ_LINK: self.read_link,
        }

    async def open(self, thread: Thread, frame: ControlBlock) -> None:
        """Open the file at a path."""
        path, address = self.caller.path(thread, frame)
        if frame["edx"] & ~int(OpenFlags.WRITE):
            raise CallerError(ErrorCode.BAD_ARGUMENT, f"no such flags of OPEN: {frame['edx']:#x}")
        flags = OpenFlags(frame["edx"])
        handle, opened, file = await self.files.open(thread.process, path, address, flags)
        frame["eax"], frame["ebx"] = handle, file.attributes
        frame["ecx"], frame["edx"] = file.size & 0xFFFF_FFFF, file.size >> 32
        frame["esi"], frame["edi"] = opened.page, opened.window

    def close(self, thread: Thread, frame: ControlBlock) -> None:
        """Close a handle."""
        self.files.close(thread.process, frame["ebx"])

    async def map_file(self, thread: Thread, frame: ControlBlock) -> None:
        """Return where file data lies in memory, mapping it if need be."""
        position = frame["edx"] << 32 | frame["esi"]
        found = await self.reading.map(thread.process, frame["ebx"], position, frame["ecx"])
        frame["eax"], frame["ecx"], frame["edx"] = found

    def file_handler(self, thread: Thread, frame: ControlBlock) -> None:
        """Say where code goes on whose touch of a file window cannot be satisfied."""
        handler = frame["ebx"], frame["esi"], frame["edi"]
        if any(address >= USER_END for address in handler):
            raise CallerError(ErrorCode.BAD_ADDRESS)
        thread.process.file_handler = handler

    async def lock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Map a directory's pages."""
        path, address = self.caller.path(thread, frame)
        number, lock = await self.directories.lock(thread.process, path, address)
        frame["eax"], frame["ebx"], frame["ecx"] = lock.window, lock.version, lock.pages
        frame["edx"], frame["edi"] = number, lock.entries

    def unlock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Unmap a directory's pages."""
        self.directories.unlock(thread.process, frame["edx"])

    async def read_link(self, thread: Thread, frame: ControlBlock) -> None:
        """Copy out where a symbolic link leads, to EDI, where there is room for EDX bytes."""
        target = await self.directories.link_target(*self.caller.path(thread, frame))
        if len(target) > frame["edx"]:
            raise CallerError(ErrorCode.NAME_TOO_LONG)
        later = self.caller.give(thread.process, frame["edi"], target)
        if later is not None:
            await later
        frame["eax"] = len(target)

    def set_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """Set the process's current directory; whether there is one is asked when it is used."""
        path, _ = self.caller.path(thread, frame)
        if not path.startswith(b"/"):
            raise CallerError(ErrorCode.BAD_ARGUMENT, "a current directory starts with /")
        if len(path) > DIRECTORY_LIMIT:
            raise CallerError(ErrorCode.NAME_TOO_LONG)
        thread.process.directory = path
