"""The exFAT server: the operations of a file-system server over a mounted `ExfatVolume`."""

from typing import ClassVar, Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError
from callgate.server.exfat.boot_region import probe
from callgate.server.exfat.directory import ExfatEntry
from callgate.server.exfat.file import OpenFile
from callgate.server.exfat.volume import ExfatVolume
from callgate.server.gate import LOW_DWORD, allocate, free
from callgate.server.hosted import HostedServer, VolumeGeometry, operation
from callgate.server.listing import ListedFile, fitting_pages
from callgate.server.message import Data, Object, Registers, RegisterValues, Reply, Request, Sectors, ServerMemory
from callgate.server.open_files import OpenFiles
from callgate.server.paths import parse_path
from callgate.server.versions import DirectoryVersions, Pages

OBJECTS_LIMIT: Final = 1 << 16  # pages made for clients that are in use at once


class ExfatServer(HostedServer):
    """Serves one exFAT volume, read-only."""

    name: ClassVar[str] = "exfat"

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.directories = DirectoryVersions(memory)
        self._volume: ExfatVolume | None = None
        self._files: OpenFiles[OpenFile] = OpenFiles()
        self._objects: OpenFiles[int] = OpenFiles(OBJECTS_LIMIT)  # addresses of memory that clients have mapped

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``exfat`` if the partition is one, else None."""
        return probe(first)

    @property
    def volume(self) -> ExfatVolume:
        """Return the mounted volume; FileSystemError before `start` has succeeded."""
        if self._volume is None:
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, "the volume is not mounted")
        return self._volume

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await ExfatVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        for text in volume.damage:
            self.report(text)
        self._volume = volume

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        """Answer with the clusters counted at start: all of them and the free ones."""
        layout = self.volume.layout
        return Registers(
            request.registers._replace(
                eax=self.volume.free or 0, edx=0, ecx=layout.cluster_bytes, esi=layout.clusters, edi=0
            )
        )

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        """Answer with label, serial number and flags."""
        volume = self.volume
        label = volume.label.encode("utf-8", "replace")
        flags = VolumeFlags.READ_ONLY
        if volume.dirty:
            flags |= VolumeFlags.DIRTY
        if volume.free is None:
            flags |= VolumeFlags.NO_FREE_SPACE
        return Data(label, request.registers._replace(eax=flags, ebx=volume.layout.serial, ecx=len(label)))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if nobody has of late."""
        path = request.path()
        entry = await self.volume.find(path)
        if not entry.is_directory:
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parse_path(path)} is not a directory")
        directory = await self.volume.directory(entry)

        def build(version: int) -> Pages:
            pages = Pages(*fitting_pages(map(_listed, directory.entries), version))
            for text in (directory.truncated, *directory.damage) if entry is not self.volume.root else ():
                if text:
                    self.report(f"directory {parse_path(path)} is damaged: {text}")
            if pages.entries < len(directory.entries):
                self.report(f"directory {parse_path(path)}: {pages.entries} of its {len(directory.entries)} are listed")
            return pages

        return await self.directories.lock(entry.identifier, build)

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
        number = self._files.add(OpenFile(str(parse_path(path)), entry, self.volume))
        identity = entry.identifier if entry.identifier <= LOW_DWORD else 0
        registers = request.registers._replace(
            eax=number, ebx=entry.attributes, ecx=entry.size & LOW_DWORD, edx=entry.size >> 32, edi=identity
        )
        return Registers(registers)

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        """Close a file number."""
        self._files.remove(request.registers.eax)
        return Registers(request.registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; with memory for the sector in which its valid bytes end."""
        registers = request.registers
        file = self._files.get(registers.ebx)
        position = registers.edx << 32 | registers.eax
        if file.is_mixed(position) and position < file.entry.size and registers.ecx:
            return await self._mixed(file, position, registers)
        extract = await file.locate(self.volume, position, registers.ecx, self.geometry.start)
        answer = registers._replace(
            eax=extract.size, ecx=extract.position & LOW_DWORD, edx=extract.position >> 32, edi=0
        )
        return Sectors(extract.entries, answer) if extract.entries else Registers(answer)

    async def _mixed(self, file: OpenFile, position: int, registers: RegisterValues) -> Reply:
        begin, data = await file.mixed_page(self.volume, position)
        covered = min(len(data), file.entry.size - begin)
        address = await allocate(PAGE_SIZE)
        self.memory.write(address, data)
        try:
            number = self._objects.add(address)
        except FileSystemError:
            await free(address)
            raise
        answer = registers._replace(eax=covered, ecx=begin & LOW_DWORD, edx=begin >> 32, edi=number)
        return Object(address, len(data), answer)

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        """Free a page that nobody uses any more."""
        await free(self._objects.remove(request.registers.eax))
        return Registers(request.registers)


def _listed(entry: ExfatEntry) -> ListedFile:
    size = 0 if entry.is_directory else entry.size
    return ListedFile(entry.name, entry.attributes, size, entry.modified, entry.identifier)
