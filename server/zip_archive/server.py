"""The server of ZIP archives: an image file that is an archive is a volume of its own."""

import zlib
from typing import ClassVar, Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError, MountError
from callgate.server.gate import LOW_DWORD, allocate, free
from callgate.server.hosted import HostedServer, VolumeGeometry, operation
from callgate.server.listing import ListedFile, fitting_pages
from callgate.server.message import Data, Object, Registers, Reply, Request, Sectors, ServerMemory
from callgate.server.open_files import OpenFiles
from callgate.server.paths import parse_path
from callgate.server.versions import DirectoryVersions, Pages
from callgate.server.zip_archive.catalogue import Catalogue, Folder
from callgate.server.zip_archive.end_record import CentralDirectory, find_central_directory, probe
from callgate.server.zip_archive.entry import ZipEntry
from callgate.server.zip_archive.file import OpenFile, open_entry, read_bytes
from callgate.server.zip_archive.restart import RestartPoints

DIRECTORY_LIMIT: Final = 64 << 20  # bytes of the central directory that are read
OBJECTS_LIMIT: Final = 1 << 16  # windows that clients use at once
LABEL_LIMIT: Final = 32


class ZipServer(HostedServer):
    """Serves one archive."""

    name: ClassVar[str] = "zip"

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.disk = Disk(memory, geometry)
        self.directories = DirectoryVersions(memory)
        self.points = RestartPoints()
        self.place = CentralDirectory(0, 0, 0, 0, b"")
        self.serial = 0
        self._catalogue: Catalogue | None = None
        self._files: OpenFiles[OpenFile] = OpenFiles()
        self._objects: OpenFiles[int] = OpenFiles(OBJECTS_LIMIT)  # addresses of memory that clients have mapped

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``zip`` if the image is an archive, else None."""
        return probe(first)

    @property
    def catalogue(self) -> Catalogue:
        """Return the tree; FileSystemError before `start` has succeeded."""
        if self._catalogue is None:
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, "the volume is not mounted")
        return self._catalogue

    async def start(self) -> None:
        """Read the central directory; MountError names what is wrong with it."""
        place = await find_central_directory(self.disk, self.geometry.sectors)
        if place.size > DIRECTORY_LIMIT:
            raise MountError(f"the central directory has {place.size} bytes; {DIRECTORY_LIMIT} are the limit")
        data = await read_bytes(self.disk, place.offset, place.size)
        catalogue = Catalogue(data, place.entries)
        if place.base:
            self.report(f"{place.base} bytes stand before the archive")
        for text in catalogue.damage:
            self.report(text)
        self.serial = zlib.crc32(data)
        self.place = place
        self._catalogue = catalogue

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        """Answer with the size of the image in sectors; nothing of it is ever free."""
        sectors = self.geometry.sectors
        registers = request.registers._replace(
            eax=0, edx=0, ecx=SECTOR_SIZE, esi=sectors & LOW_DWORD, edi=sectors >> 32
        )
        return Registers(registers)

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        """Answer with the beginning of the archive's comment as label, and the CRC-32 of the central directory."""
        lines = self.place.comment.decode("utf-8", "replace").splitlines()
        text = "".join(character for character in (lines or [""])[0] if character.isprintable())
        label = text[:LABEL_LIMIT].strip().encode("utf-8")
        flags = VolumeFlags.READ_ONLY | VolumeFlags.CASE_SENSITIVE
        if self.catalogue.damage:
            flags |= VolumeFlags.DIRTY
        return Data(label, request.registers._replace(eax=flags, ebx=self.serial, ecx=len(label)))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if nobody has of late."""
        path = request.path()
        folder = self.catalogue.find(path)
        if not isinstance(folder, Folder):
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parse_path(path)} is not a directory")

        def build(version: int) -> Pages:
            pages = Pages(*fitting_pages((_listed(*child) for child in folder.children.items()), version))
            if pages.entries < len(folder.children):
                self.report(f"directory {parse_path(path)}: {pages.entries} of {len(folder.children)} are listed")
            return pages

        return await self.directories.lock(folder.number, build)

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        """Give a directory lock back."""
        await self.directories.unlock(request.registers.edx)
        return Registers(request.registers)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; FileSystemError(NOT_SUPPORTED) names encryption or a method that is not known."""
        path = request.path()
        entry = self.catalogue.find(path)
        if isinstance(entry, Folder):
            raise FileSystemError(ErrorCode.IS_DIRECTORY, f"{parse_path(path)} is a directory")
        if refusal := entry.refusal():
            self.report(f"{parse_path(path)} cannot be opened: {refusal}")
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"{parse_path(path)}: {refusal}")
        number = self._files.add(await open_entry(self.disk, self.place, entry))
        registers = request.registers._replace(
            eax=number, ebx=entry.attributes, ecx=entry.size & LOW_DWORD, edx=entry.size >> 32, edi=entry.number
        )
        return Registers(registers)

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        """Close a file number; windows of it that clients use stay."""
        self._files.remove(request.registers.eax)
        self.points.forget(request.registers.eax)
        return Registers(request.registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer with sectors if the data lie in whole ones, else with memory that holds a window of the file."""
        registers = request.registers
        file = self._files.get(registers.ebx)
        position = registers.edx << 32 | registers.eax
        if file.in_sectors:
            extract = file.locate(position, registers.ecx, self.geometry.start)
            answer = registers._replace(
                eax=extract.size, ecx=extract.position & LOW_DWORD, edx=extract.position >> 32, edi=0
            )
            return Sectors(extract.entries, answer) if extract.entries else Registers(answer)
        window = await file.window(self.disk, self.points, registers.ebx, position, registers.ecx)
        answer = registers._replace(
            eax=len(window.data), ecx=window.position & LOW_DWORD, edx=window.position >> 32, edi=0
        )
        if not window.data:
            return Registers(answer)
        address = await allocate(len(window.data))
        self.memory.write(address, window.data)
        try:
            number = self._objects.add(address)
        except FileSystemError:
            await free(address)
            raise
        return Object(address, len(window.data), answer._replace(edi=number))

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        """Free the memory of a window that nobody uses any more."""
        await free(self._objects.remove(request.registers.eax))
        return Registers(request.registers)


def _listed(name: str, child: Folder | ZipEntry) -> ListedFile:
    if isinstance(child, Folder):
        attributes = FileAttributes.DIRECTORY | FileAttributes.READ_ONLY
        return ListedFile(name, attributes, 0, child.modified, child.number << 32)
    return ListedFile(name, child.attributes, child.size, child.modified, child.number)
