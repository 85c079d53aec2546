"""The FAT server: the operations of a file-system server over a mounted `FatVolume`."""

from typing import ClassVar, Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError
from callgate.server.fat.directory import FatEntry
from callgate.server.fat.file import OpenFile
from callgate.server.fat.probe import probe
from callgate.server.fat.volume import FatVolume
from callgate.server.gate import LOW_DWORD
from callgate.server.hosted import HostedServer, VolumeGeometry, operation
from callgate.server.listing import ListedFile, fitting_pages
from callgate.server.message import Data, Registers, Reply, Request, Sectors, ServerMemory
from callgate.server.paths import parse_path
from callgate.server.versions import DirectoryVersions, Pages

OPEN_FILES_LIMIT: Final = 4096


class FatServer(HostedServer):
    """Serves one FAT12, FAT16 or FAT32 partition, read-only."""

    name: ClassVar[str] = "fat"

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.directories = DirectoryVersions(memory)
        self._volume: FatVolume | None = None
        self._files: dict[int, OpenFile] = {}
        self._last_file = 0

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``fat12``, ``fat16``, ``fat32`` or ``fat`` if the partition is one, else None."""
        return probe(first)

    @property
    def volume(self) -> FatVolume:
        """Return the mounted volume; FileSystemError before `start` has succeeded."""
        if self._volume is None:
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, "the volume is not mounted")
        return self._volume

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await FatVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        for text in volume.damage:
            self.report(text)
        self._volume = volume

    async def handle(self, request: Request) -> Reply:
        """Dispatch, and report when the disk made us use the second FAT."""
        reply = await super().handle(request)
        if self._volume is not None and self._volume.table.fallback_reason:
            self.report(f"a mirror of the FAT was read: {self._volume.table.fallback_reason}")
            self._volume.table.fallback_reason = ""
        return reply

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        """Answer with the clusters counted at start: all of them and the free ones."""
        layout = self.volume.layout
        return Registers(
            request.registers._replace(
                eax=self.volume.usage.free, edx=0, ecx=layout.cluster_bytes, esi=layout.clusters, edi=0
            )
        )

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        """Answer with label, serial number and flags."""
        label = (await self.volume.label()).encode("utf-8")
        flags = VolumeFlags.READ_ONLY | (VolumeFlags.DIRTY if self.volume.dirty else VolumeFlags(0))
        registers = request.registers._replace(eax=flags, ebx=self.volume.layout.serial, ecx=len(label))
        return Data(label, registers)

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if nobody has of late."""
        path = request.path()
        entry = await self.volume.find(path)
        if not entry.is_directory:
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parse_path(path)} is not a directory")
        directory = await self.volume.directory(entry)

        def build(version: int) -> Pages:
            if directory.truncated:
                self.report(f"directory {parse_path(path)} is damaged: {directory.truncated}")
            data, listed = fitting_pages(map(_listed, directory.entries), version)
            if listed < len(directory.entries):
                total = len(directory.entries)
                self.report(f"directory {parse_path(path)} is too large: {listed} of {total} entries are listed")
            return Pages(data, listed)

        return await self.directories.lock(entry.cluster, build)

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        """Give a directory lock back."""
        await self.directories.unlock(request.registers.edx)
        return Registers(request.registers)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; each open has a number of its own."""
        path = request.path()
        entry = await self.volume.find(path)
        if entry.is_directory:
            raise FileSystemError(ErrorCode.IS_DIRECTORY, f"{parse_path(path)} is a directory")
        if len(self._files) >= OPEN_FILES_LIMIT:
            raise FileSystemError(ErrorCode.NO_RESOURCES, f"{OPEN_FILES_LIMIT} files are open already")
        number = self._new_number()
        self._files[number] = OpenFile(str(parse_path(path)), entry)
        registers = request.registers._replace(
            eax=number, ebx=entry.attributes, ecx=entry.size, edx=0, edi=entry.identifier & LOW_DWORD
        )
        return Registers(registers)

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        """Close a file number."""
        self._file(request.registers.eax)
        del self._files[request.registers.eax]
        return Registers(request.registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; their data is the kernel's business.

        EAX becomes the bytes covered, EDX:ECX the position they begin at: that asked for, rounded down to
        a sector.  Nothing is covered at the end of the file.
        """
        registers = request.registers
        file = self._file(registers.ebx)
        position = registers.edx << 32 | registers.eax
        extract = await file.locate(self.volume, position, registers.ecx, self.geometry.start)
        answer = registers._replace(
            eax=extract.size, ecx=extract.position & LOW_DWORD, edx=extract.position >> 32, edi=0
        )
        return Sectors(extract.entries, answer) if extract.entries else Registers(answer)

    def _file(self, number: int) -> OpenFile:
        file = self._files.get(number)
        if file is None:
            raise FileSystemError(ErrorCode.BAD_HANDLE, f"no open file {number}")
        return file

    def _new_number(self) -> int:
        self._last_file = self._last_file % LOW_DWORD + 1
        while self._last_file in self._files:
            self._last_file = self._last_file % LOW_DWORD + 1
        return self._last_file


def _listed(entry: FatEntry) -> ListedFile:
    return ListedFile(entry.name, entry.attributes, entry.size, entry.modified, entry.identifier)
