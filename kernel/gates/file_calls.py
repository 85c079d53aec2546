"""System calls about files and directories."""

from __future__ import annotations

from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.memory import USER_END
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.errors import CallerError, GivenUp, PolicyError
from callgate.kernel.core.records import OpenFile, Process, Thread
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
        """The handlers of these calls by number."""
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
        """OPEN: open the file at a path, with flags in EDX; return its handle, attributes, size and addresses.

        BAD_ARGUMENT for unknown flags; the errors of `Files.open`.
        """
        path, address = self.caller.path(thread, frame)
        if frame["edx"] & ~int(OpenFlags.WRITE | OpenFlags.FROM_START):
            raise CallerError(ErrorCode.BAD_ARGUMENT, f"no such flags of OPEN: {frame['edx']:#x}")
        flags = OpenFlags(frame["edx"])
        handle, opened, file = await self.files.open(thread.process, path, address, flags)
        if flags & OpenFlags.FROM_START:
            await self._bring_first(thread.process, handle, opened)
        frame["eax"], frame["ebx"] = handle, file.attributes
        frame["ecx"], frame["edx"] = file.size & 0xFFFF_FFFF, file.size >> 32
        frame["esi"], frame["edi"] = opened.page, opened.window

    async def _bring_first(self, process: Process, handle: int, opened: OpenFile) -> None:
        """Map the first data of a file that has just been opened; whatever touches them has the error, if there is one.

        GivenUp if the thread must not wait: the file is closed then.
        """
        try:
            await self.reading.map(process, handle, 0, 1)
        except GivenUp:
            if process.files.get(handle) is opened:
                self.files.close(process, handle)
            raise
        except PolicyError:
            return

    def close(self, thread: Thread, frame: ControlBlock) -> None:
        """CLOSE: close the handle in EBX; BAD_HANDLE."""
        self.files.close(thread.process, frame["ebx"])

    async def map_file(self, thread: Thread, frame: ControlBlock) -> None:
        """MAP_FILE: return the address of file data, mapping them if need be; the errors of `Reading.map`."""
        position = frame["edx"] << 32 | frame["esi"]
        found = await self.reading.map(thread.process, frame["ebx"], position, frame["ecx"])
        frame["eax"], frame["ecx"], frame["edx"] = found

    def file_handler(self, thread: Thread, frame: ControlBlock) -> None:
        """FILE_HANDLER: from now on, code in [ESI, EDI) that touches an unavailable file page resumes at EBX.

        BAD_ADDRESS if one of them is not in user memory.
        """
        handler = frame["ebx"], frame["esi"], frame["edi"]
        if any(address >= USER_END for address in handler):
            raise CallerError(ErrorCode.BAD_ADDRESS)
        thread.process.file_handler = handler

    async def lock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """LOCK_DIRECTORY: map the pages of the directory at a path; the errors of `Directories.lock`."""
        path, address = self.caller.path(thread, frame)
        number, lock = await self.directories.lock(thread.process, path, address)
        frame["eax"], frame["ebx"], frame["ecx"] = lock.window, lock.version, lock.pages
        frame["edx"], frame["edi"] = number, lock.entries

    def unlock_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """UNLOCK_DIRECTORY: unmap the pages of the lock in EDX; BAD_HANDLE."""
        self.directories.unlock(thread.process, frame["edx"])

    async def read_link(self, thread: Thread, frame: ControlBlock) -> None:
        """READ_LINK: copy the target of the symbolic link at a path to EDI, with room for EDX bytes; EAX its length.

        Of a directory and names of links in it, what its server says of all of them.  NAME_TOO_LONG without room.
        """
        target = await self.directories.link_target(*self.caller.path_and_names(thread, frame))
        if len(target) > frame["edx"]:
            raise CallerError(ErrorCode.NAME_TOO_LONG)
        later = self.caller.give(thread.process, frame["edi"], target)
        if later is not None:
            await later
        frame["eax"] = len(target)

    def set_directory(self, thread: Thread, frame: ControlBlock) -> None:
        """SET_DIRECTORY: set the process's current directory, which need not exist before it is used.

        BAD_ARGUMENT unless the path is absolute, NAME_TOO_LONG beyond `DIRECTORY_LIMIT` bytes.
        """
        path, _ = self.caller.path(thread, frame)
        if not path.startswith(b"/"):
            raise CallerError(ErrorCode.BAD_ARGUMENT, "a current directory starts with /")
        if len(path) > DIRECTORY_LIMIT:
            raise CallerError(ErrorCode.NAME_TOO_LONG)
        thread.process.directory = path
