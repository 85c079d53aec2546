"""Open files: OPEN, CLOSE, MAP_FILE, page faults in file windows, and the life of file objects.

There is one file object for a file, however many processes have it open and however often: servers tell by an
identity that two opens are of the same file.  A process has a handle, a window on the file's data and the
file's page (`kernel/abi/file.py`), from which it reads without a system call what is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_AREAS, FILE_SEQUENCE_NONE, FILE_WINDOW_BYTES, OpenFlags
from callgate.kernel.abi.limits import FILES_OF_PROCESS
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.errors import PolicyError
from callgate.kernel.file_objects import FileObject, FillState, publish, sequence_of
from callgate.kernel.fills import FILL_BYTES
from callgate.kernel.machine.accounts import Account
from callgate.kernel.paths import resolve
from callgate.kernel.records import OpenFile, PartitionState, Process

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

TOUCH_BYTES = 16 * PAGE_SIZE  # asked for, at least, when a reader jumps about
OPEN_FRAMES = 2  # the file's page, and a page table for it
CROWDED = FILE_AREAS - 2 * FILE_WINDOW_BYTES // FILL_BYTES  # areas; only gaps that one request cannot fill add more


@dataclass(slots=True)
class FilesState:
    """Records: file objects by number."""

    objects: dict[int, FileObject] = field(default_factory=dict)
    next_number: int = 1


class Files:
    """Handles and file objects."""

    def __init__(self, kernel: Kernel) -> None:
        self.state = kernel.state.files
        self.kernel = kernel

    @property
    def objects(self) -> dict[int, FileObject]:
        """The file objects by number."""
        return self.state.objects

    # Handles.

    async def open(
        self, process: Process, path: bytes, path_address: int, flags: OpenFlags
    ) -> tuple[int, OpenFile, FileObject]:
        """Open the file at an absolute path that also lies at kernel address `path_address`."""
        writable = OpenFlags.WRITE in flags
        partition, rest = resolve(self.kernel.state.endpoints, path)
        if partition is None:
            raise PolicyError(ErrorCode.IS_DIRECTORY)
        if len(process.files) >= FILES_OF_PROCESS:
            raise PolicyError(ErrorCode.NO_RESOURCES)
        file = await self.open_object(partition, (path_address + len(path) - len(rest), len(rest)))
        try:
            if len(process.files) >= FILES_OF_PROCESS:  # other threads have opened files meanwhile
                raise PolicyError(ErrorCode.NO_RESOURCES)
            if writable and file.attributes & FileAttributes.READ_ONLY:
                raise PolicyError(ErrorCode.READ_ONLY)
            if writable and not self.kernel.scratch:
                raise PolicyError(ErrorCode.NO_SCRATCH)
            self.kernel.shares.check_frames(process, OPEN_FRAMES)
            opened = self.kernel.file_windows.open(process, file, writable=writable)
        except PolicyError:
            self.close_object(file)
            raise
        handle = next(number for number in range(1, FILES_OF_PROCESS + 1) if number not in process.files)
        process.files[handle] = opened
        return handle, opened, file

    def close(self, process: Process, handle: int) -> None:
        """Close a handle; with the last one of the file its object goes and the server forgets it."""
        opened = self._opened(process, handle)
        del process.files[handle]
        file = self.objects[opened.object]
        self.kernel.file_windows.close(process, opened, file)
        self.close_object(file)

    def close_all(self, process: Process) -> None:
        """Close every handle of a process that ends."""
        for handle in list(process.files):
            self.close(process, handle)

    async def map(self, process: Process, handle: int, position: int, wanted: int) -> tuple[int, int, int]:
        """Return (address, bytes) of file data at `position`, and the FilePage's sequence that vouches for it.

        (0, 0, FILE_SEQUENCE_NONE) at or behind the end.
        """
        opened = self._opened(process, handle)
        file = self.objects[opened.object]
        self._check(file)
        if position >= file.size or wanted == 0:
            return 0, 0, FILE_SEQUENCE_NONE
        windows = self.kernel.file_windows
        while True:
            if not windows.shows(opened, file, position):
                windows.move(process, opened, file, position)
            fill = await windows.touch(process, opened, file, position, self._ask(opened, file, position, wanted))
            # The first data tell where pages begin, and another thread may have moved the window; what comes next may
            # have taken over a page that was not complete (`FilePages.begin`).
            if windows.shows(opened, file, position) and position < fill.end:
                break
        end = min(fill.end, opened.position + FILE_WINDOW_BYTES - (file.shift or 0))
        stands = fill in file.fills  # it may have been let go of while what comes next was asked for
        sequence = sequence_of(self.kernel.guest.ram, file) if stands else FILE_SEQUENCE_NONE
        return windows.address(opened, file, position), end - position, sequence

    async def fault(self, process: Process, address: int) -> bool:
        """A page of a file window has been touched that is not there: get it.  False if there is no such file.

        PolicyError if the data cannot be had.
        """
        found = self.at(process, address)
        if found is None:
            return False
        opened, file = found
        self._check(file)
        page = (address - opened.window) // PAGE_SIZE + opened.position // PAGE_SIZE
        start = file.page_start(page)
        inside = opened.position + address - opened.window - (file.shift or 0)
        position = max(start, min(inside, file.size - 1))
        if start >= file.size or (inside >= file.size and file.page_of(file.size - 1) != page):
            return False
        wanted = self._ask(opened, file, position, 1)
        await self.kernel.file_windows.touch(process, opened, file, position, wanted)
        return True

    def at(self, process: Process, address: int) -> tuple[OpenFile, FileObject] | None:
        """Return the open file in whose window an address lies."""
        for opened in process.files.values():
            file = self.objects[opened.object]
            if 0 <= address - opened.window < self.kernel.file_windows.span(file) * PAGE_SIZE:
                return opened, file
        return None

    def _ask(self, opened: OpenFile, file: FileObject, position: int, wanted: int) -> int:
        """Return how much to ask for: all that one request brings while the reader moves on in order.

        And all up to what is there already when the file's page has hardly room for another area.
        """
        if len(file.areas()) >= CROWDED:
            return max(wanted, file.next_start(position) - position)
        following = file.covering(opened.expected)
        expected = position == opened.expected or (following is not None and file.covering(position) is following)
        return max(wanted, FILL_BYTES if expected else TOUCH_BYTES)

    def _opened(self, process: Process, handle: int) -> OpenFile:
        opened: OpenFile | None = process.files.get(handle)
        if opened is None:
            raise PolicyError(ErrorCode.BAD_HANDLE)
        return opened

    def _check(self, file: FileObject) -> None:
        if file.error is not ErrorCode.OK:
            raise PolicyError(file.error)

    # File objects.

    async def open_object(self, partition: PartitionState, path: tuple[int, int]) -> FileObject:
        """Open the file at a path (kernel address, bytes) of a volume, or share it if it is open already."""
        self.kernel.give_backs.check_room(partition)
        reply = await self.kernel.requests.make(partition, Operation.OPEN, data=path)
        registers = reply.registers
        self.kernel.give_backs.taken(partition)
        await reply.finish()
        if registers.ebx & FileAttributes.DIRECTORY:
            self._close_at_server(partition, registers.eax)
            raise PolicyError(ErrorCode.IS_DIRECTORY)
        shared = self._shared(partition, registers.edi)
        if shared is not None:
            shared.opens += 1
            self._close_at_server(partition, registers.eax)
            return shared
        if partition.dead:
            raise PolicyError(partition.error)
        state = self.state
        try:
            frame = self.kernel.shares.frame_for_files()
        except PolicyError:
            self._close_at_server(partition, registers.eax)
            raise
        self.kernel.memory.tables.clear(frame)
        size = registers.edx << 32 | registers.ecx
        file = FileObject(
            state.next_number, partition.number, registers.eax, registers.edi, size, registers.ebx, frame, opens=1
        )
        state.next_number += 1
        state.objects[file.number] = file
        publish(self.kernel.guest.ram, file)
        return file

    def _shared(self, partition: PartitionState, identity: int) -> FileObject | None:
        if not identity:
            return None
        for file in self.objects.values():
            if (file.partition, file.identity) == (partition.number, identity) and file.error is ErrorCode.OK:
                return file
        return None

    def close_object(self, file: FileObject) -> None:
        """Let go of a file object once; the last time everything that it holds goes."""
        file.opens -= 1
        if file.opens:
            return
        for fill in [fill for fill in file.fills if fill.state is FillState.READY]:
            self.kernel.file_windows.release(file, fill)
        self.finish_closing(file)

    def finish_closing(self, file: FileObject) -> None:
        """Forget a file object that nobody has open, unless it is being opened again or data are on their way to it.

        What the disk is about to write into cannot be given back.  Nobody waits for that: whatever becomes of the last
        request block on its way calls this again.
        """
        if file.opens or file.number not in self.objects or any(fill.state is FillState.WAITING for fill in file.fills):
            return
        for fill in list(file.fills):
            self.kernel.file_windows.release(file, fill)
        partition = self.kernel.state.endpoints.by_number[file.partition]
        del self.objects[file.number]
        if not self.objects:
            self.kernel.ageing_timer.rest()
        self.kernel.memory.low.release(file.frame)
        self._close_at_server(partition, file.server_file)

    def _close_at_server(self, partition: PartitionState, number: int) -> None:
        """Have a server told that nobody uses its file any more, after what was noted before: what it held for it."""
        self.kernel.give_backs.add(partition, Operation.CLOSE, number)

    def in_use(self, partition: PartitionState) -> bool:
        """Whether there is a file object of a partition: it names it by its number."""
        return any(file.partition == partition.number for file in self.objects.values())

    def partition_died(self, partition: PartitionState, code: ErrorCode) -> None:
        """The disk or the server of a volume is gone: its files are invalid, their data leaves every window."""
        for file in list(self.objects.values()):
            if file.partition != partition.number or file.error is not ErrorCode.OK:
                continue
            file.error = code
            for fill in list(file.fills):
                if fill.state is FillState.WAITING:
                    self.kernel.fills.fail(file, fill, code)
                elif fill in file.fills:
                    self.kernel.file_windows.release(file, fill)
            if file.number in self.objects:  # else it was being closed, and has gone with its last request block
                publish(self.kernel.guest.ram, file)

    # The kernel's own use.

    async def read_all(self, partition: PartitionState, path: tuple[int, int], limit: int, parent: int) -> bytes:
        """Return the content of a small file: the program that process `parent` starts."""
        file = await self.open_object(partition, path)
        shares = self.kernel.shares
        data = bytearray()
        try:
            if file.size > limit:
                raise PolicyError(ErrorCode.NOT_EXECUTABLE, f"{file.size} bytes are too many")
            while len(data) < file.size:
                fill = await self.kernel.fills.obtain(file, len(data), file.size)
                fill.ahead = False
                shares.check_loading(parent, fill.end - len(data))
                piece = self._bytes(file, len(data), fill.end)
                shares.loading += len(piece)
                data += piece
            return bytes(data)
        finally:
            shares.loading -= len(data)
            self.close_object(file)

    def _bytes(self, file: FileObject, start: int, end: int) -> bytes:
        """Copy bytes of one READY request block."""
        fill = file.covering(start)
        assert fill is not None
        pieces = []
        at = start
        while at < end:
            within = (at + (file.shift or 0)) % PAGE_SIZE
            size = min(end - at, PAGE_SIZE - within)
            frame = fill.frames[file.page_of(at) - fill.first_page]
            pieces.append(self.kernel.machine.ram.read(frame + within, size, Account.PROGRAM))
            at += size
        return b"".join(pieces)
