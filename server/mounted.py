"""The common parts of servers of one mounted, read-only volume: numbers of open files, directory locks, replies.

A third party's server may build on it, or on `HostedServer` alone.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar, Final, Generic, TypeVar

from callgate.kernel.abi.calls import NAME_ABSENT, OPEN_CLOSES, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE
from callgate.server.errors import FileSystemError
from callgate.server.gate import LOW_DWORD, allocate, free
from callgate.server.hosted import HostedServer, VolumeGeometry, operation
from callgate.server.listing import ListedFile, fitting_pages
from callgate.server.message import (
    Data,
    Failure,
    Object,
    Registers,
    RegisterValues,
    Reply,
    Request,
    Sectors,
    ServerMemory,
)
from callgate.server.open_files import OpenFiles
from callgate.server.paths import parse_path
from callgate.server.pieces import Extract
from callgate.server.versions import DirectoryVersions, Pages

MEMORY_OUT_LIMIT: Final = 1 << 16
LINKS_AT_ONCE: Final = 32  # answers of one READ_LINKS
LINK_LENGTH: Final = 2  # bytes of a target's length in its reply
NAMING: Final = frozenset({Operation.LOCK_DIRECTORY, Operation.OPEN, Operation.READ_LINK})

Volume = TypeVar("Volume")
File = TypeVar("File")


class MountedServer(HostedServer, Generic[Volume, File]):
    """Serves a `Volume` whose open files are each a `File`."""

    first_data: ClassVar[bool] = True  # whether READ is called with OPEN; not where it makes the data

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.directories = DirectoryVersions(memory)
        self.files: OpenFiles[File] = OpenFiles()
        self.memory_out: OpenFiles[int] = OpenFiles(MEMORY_OUT_LIMIT)  # addresses of replies that clients have mapped
        self._volume: Volume | None = None

    @property
    def volume(self) -> Volume:
        """Return the mounted volume; FileSystemError before `start` has succeeded."""
        if self._volume is None:
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, "the volume is not mounted")
        return self._volume

    def mounted(self, volume: Volume, damage: Iterable[str] = ()) -> None:
        """Note the mounted volume and its damage: the end of `start`."""
        for text in damage:
            self.report(text)
        self._volume = volume

    async def handle(self, request: Request) -> Reply:
        """Dispatch, and do what spares the kernel requests.

        Vouch for names that are not there: a server whose directories change says so by `directories.retire`.  Close
        with OPEN what ESI names, and answer it with the first data that ECX wants.
        """
        try:
            if request.operation == Operation.OPEN:
                return await self._answer_open(request)
            return await super().handle(request)
        except FileSystemError as error:
            if error.code is not ErrorCode.NOT_FOUND or request.operation not in NAMING:
                raise
            return Failure(error.code, request.registers._replace(edi=NAME_ABSENT))

    async def _answer_open(self, request: Request) -> Reply:
        """Close a file, open another and find its first data, each as its own request would."""
        asked = request.registers
        if asked.esi:
            with suppress(FileSystemError):
                await super().handle(Request(Operation.CLOSE, RegisterValues(eax=asked.esi)))
        plain = RegisterValues(asked.eax, asked.ebx, edx=asked.edx, edi=asked.edi)
        reply = await super().handle(request._replace(registers=plain))
        if not isinstance(reply, Registers):
            return reply
        opened = reply.registers._replace(ebx=reply.registers.ebx | OPEN_CLOSES)
        size = opened.edx << 32 | opened.ecx
        if self.first_data and min(asked.ecx, size):
            wanted = RegisterValues(ebx=opened.eax, ecx=min(asked.ecx, size))
            with suppress(FileSystemError):  # the kernel's READ has it
                data = await super().handle(Request(Operation.READ, wanted))
                if isinstance(data, Sectors) and not data.registers.ecx | data.registers.edx | data.registers.edi:
                    return Sectors(data.entries, opened._replace(esi=data.registers.eax))
                if data.registers.edi:
                    await super().handle(Request(Operation.RELEASE, RegisterValues(eax=data.registers.edi)))
        return Registers(opened)

    def listed(self, path: str, files: Iterable[ListedFile], total: int, version: int) -> Pages:
        """Return the pages of a directory of ``total`` entries; those that do not fit are left out, and reported."""
        pages = Pages(*fitting_pages(files, version))
        if pages.entries < total:
            self.report(f"directory {parse_path(path)}: {pages.entries} of its {total} entries are listed")
        return pages

    def report_directory(self, path: str, damage: Iterable[str]) -> None:
        """Report what is wrong with a directory; empty texts are passed over."""
        for text in damage:
            if text:
                self.report(f"directory {parse_path(path)} is damaged: {text}")

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        """Give a directory lock back."""
        await self.directories.unlock(request.registers.edx)
        return Registers(request.registers)

    def opened(self, request: Request, file: File, attributes: int, size: int, identity: int) -> Reply:
        """Give an open file a number of its own and return the reply to OPEN; an identity above 32 bits is none."""
        registers = request.registers._replace(
            eax=self.files.add(file),
            ebx=attributes,
            ecx=size & LOW_DWORD,
            edx=size >> 32,
            edi=identity if identity <= LOW_DWORD else 0,
        )
        return Registers(registers)

    def link(self, request: Request, target: str) -> Reply:
        """Return the reply to READ_LINK; FileSystemError, NAME_TOO_LONG if no message carries the target."""
        data = target.encode("utf-8")
        if len(data) > MESSAGE_DATA_SIZE:
            raise FileSystemError(
                ErrorCode.NAME_TOO_LONG, f"{parse_path(request.path())}: a target of {len(data)} bytes"
            )
        return Data(data, request.registers._replace(eax=len(data)))

    @operation(Operation.READ_LINKS)
    async def read_links(self, request: Request) -> Reply:
        """Answer where symbolic links of a directory lead: at most LINKS_AT_ONCE, each as this server's READ_LINK does.

        One that READ_LINK refuses has no bytes, and its own request tells why.  FileSystemError, BAD_CALL without
        READ_LINK, and BAD_ARGUMENT without a name.
        """
        if Operation.READ_LINK not in self.operations:
            raise FileSystemError(ErrorCode.BAD_CALL, f"{self.name} has no operation {request.operation}")
        directory, *names = request.data.split(b"\0")
        if not names:
            raise FileSystemError(ErrorCode.BAD_ARGUMENT, "no name of a link")
        answer = bytearray()
        for name in names[:LINKS_AT_ONCE]:
            target = await self._target_of(directory + b"/" * bool(directory) + name)
            if len(answer) + LINK_LENGTH + len(target) > MESSAGE_DATA_SIZE:
                if answer:
                    break
                target = b""
            answer += len(target).to_bytes(LINK_LENGTH, "little") + target
        return Data(bytes(answer), request.registers._replace(eax=len(answer)))

    async def _target_of(self, path: bytes) -> bytes:
        """Return the target of a symbolic link, none if it cannot be read."""
        with suppress(FileSystemError):
            reply = await self.handle(Request(Operation.READ_LINK, RegisterValues(), path))
            if isinstance(reply, Data):
                return reply.data
        return b""

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        """Close a file number."""
        self.files.remove(request.registers.eax)
        return Registers(request.registers)

    async def memory_reply(self, registers: RegisterValues, position: int, data: bytes, size: int) -> Reply:
        """Return the reply to a READ that is memory of the server: ``size`` bytes of the file, from ``position`` on.

        It is freed when the kernel says that it is no longer used.
        """
        address = await allocate(len(data))
        self.memory.write(address, data)
        try:
            number = self.memory_out.add(address)
        except FileSystemError:
            await free(address)
            raise
        return Object(address, len(data), answer_to(registers, position, size, number))

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        """Free memory that is no longer used."""
        await free(self.memory_out.remove(request.registers.eax))
        return Registers(request.registers)


def directory_wanted(path: str) -> FileSystemError:
    """Return the error for a path that leads to something other than a directory."""
    return FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parse_path(path)} is not a directory")


def file_wanted(path: str) -> FileSystemError:
    """Return the error for a path that leads to a directory."""
    return FileSystemError(ErrorCode.IS_DIRECTORY, f"{parse_path(path)} is a directory")


def link_wanted(path: str) -> FileSystemError:
    """Return the error for a path that leads to something other than a symbolic link."""
    return FileSystemError(ErrorCode.BAD_ARGUMENT, f"{parse_path(path)} is not a symbolic link")


def position_of(registers: RegisterValues) -> int:
    """Return the position in EDX:EAX of a READ."""
    return registers.edx << 32 | registers.eax


def answer_to(registers: RegisterValues, position: int, size: int, held: int = 0) -> RegisterValues:
    """Return the registers of the reply to a READ: bytes covered, where they begin, the resource held for the reply."""
    return registers._replace(eax=size, ecx=position & LOW_DWORD, edx=position >> 32, edi=held)


def sectors_reply(registers: RegisterValues, extract: Extract) -> Reply:
    """Return the reply to a READ: the sectors, or that nothing is covered."""
    answer = answer_to(registers, extract.position, extract.size)
    return Sectors(extract.entries, answer) if extract.entries else Registers(answer)
