"""A volume on plain file data, for unit tests of managers of files: a server whose answers the test gives."""

import struct

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.message import ReplyType, SlotState
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.records import DirectoryLock
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.files.directories import Directories, DirectoriesState
from callgate.kernel.files.handles import Files
from callgate.kernel.files.names import Names
from callgate.kernel.files.opening import FileOpening
from callgate.kernel.files.reading import Reading
from plain_files import PAGE, FileData
from plain_guest import drive, returned
from plain_ipc import DATA

PATH = 0xC020_0000  # linear address of paths


class Volume(FileData):
    """The managers of files over file data; a server whose answers the test gives."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = False
        state = self.files_state
        self.names = Names(self.requests, self.back)
        self.directories = Directories(
            DirectoriesState(), self.memory, self.windows, self.names, self.back, self.shares, self.endpoints
        )
        self.opening = FileOpening(state, self.names, self.shares, self.fetching, self.answers)
        self.handles = Files(state, self.endpoints, self.shares, self.opening, self.mapping, lambda: self.scratch)
        self.reading = Reading(state, self.cache, self.shares, self.fetching, self.mapping)
        self.asked: list[tuple[Operation, int, int]] = []  # operation, address of its data, bytes
        self.version, self.lock_number = 1, 0

    def note(self) -> None:
        block = self.threads.block(self.scheduler.current)
        asked = (block[f"request_{name}"] for name in ("operation", "data", "bytes"))
        operation, address, size = asked
        self.asked.append((Operation(operation), address, size))

    def directory(self, call: RoutineCall) -> RoutineResult:
        """Answer LOCK_DIRECTORY with one page, as it is after CONVERT."""
        self.note()
        server = self.endpoint.process
        frame = server.pages[self.processes.allocate(server, PAGE)]
        self.low.hold(frame)
        slot = self.take(state=SlotState.DONE)[0]
        message = self.message(slot)
        message.reply, message.count = ReplyType.OBJECT, 1
        struct.pack_into("<Q", self.slots.message(self.endpoint, slot), DATA, frame)
        self.endpoint.pins[slot] = [("frame", frame, 0)]
        self.lock_number += 1
        return returned(call, edx=self.lock_number, ebx=self.version, ecx=1, edi=4)

    def file(self, size: int, *, attributes: int = 0, identity: int = 0, number: int = 77) -> object:
        """Return the function that answers OPEN."""

        def ipc_request(call: RoutineCall) -> RoutineResult:
            self.note()
            slot = self.take(state=SlotState.DONE)[0]
            self.message(slot).reply = ReplyType.REGISTERS
            return returned(call, eax=number, ebx=attributes, ecx=size & 0xFFFF_FFFF, edx=size >> 32, edi=identity)

        return ipc_request

    def lock(self, path: bytes) -> tuple[int, DirectoryLock]:
        locked = self.directories.lock(self.shell, path, PATH)
        return drive(locked, ipc_request=self.directory, ipc_finish=self.finish)[0]

    def finish(self, _call: RoutineCall) -> None:
        """Release the slot, as machine code does."""
        self.slots.free_slot(self.endpoint, self.threads.block(self.thread)["slot"])

    def open(self, size: int, flags: OpenFlags | None = None, **answer: int) -> tuple[int, FileObject]:
        opened = self.handles.open(self.shell, b"/d0p1/f", PATH, flags or OpenFlags(0))
        handle, _, file = drive(opened, ipc_request=self.file(size, **answer))[0]
        return handle, file
