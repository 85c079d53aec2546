"""The server of ZIP archives: an image file that is an archive is a volume of its own."""

import zlib
from typing import ClassVar, Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError, MountError
from callgate.server.gate import LOW_DWORD
from callgate.server.hosted import VolumeGeometry, operation
from callgate.server.listing import ListedFile
from callgate.server.message import Data, Registers, Reply, Request, ServerMemory
from callgate.server.mounted import (
    MountedServer,
    answer_to,
    directory_wanted,
    file_wanted,
    link_wanted,
    position_of,
    sectors_reply,
)
from callgate.server.paths import parse_path
from callgate.server.versions import Pages
from callgate.server.zip_archive.catalogue import Catalogue, Folder
from callgate.server.zip_archive.end_record import CentralDirectory, find_central_directory
from callgate.server.zip_archive.entry import ZipEntry
from callgate.server.zip_archive.file import OpenFile, open_entry, read_bytes
from callgate.server.zip_archive.links import find, is_link, target_of
from callgate.server.zip_archive.probe import ZipProbe
from callgate.server.zip_archive.restart import RestartPoints

DIRECTORY_LIMIT: Final = 64 << 20  # bytes of the central directory that are read
LABEL_LIMIT: Final = 32


class ZipServer(MountedServer[Catalogue, OpenFile], ZipProbe):
    """Serves one archive."""

    name: ClassVar[str] = "zip"
    first_data: ClassVar[bool] = False

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.disk = Disk(memory, geometry)
        self.points = RestartPoints()
        self.place = CentralDirectory(0, 0, 0, 0, b"")
        self.serial = 0

    async def start(self) -> None:
        """Read the central directory; MountError names what is wrong with it."""
        place = await find_central_directory(self.disk, self.geometry.sectors)
        if place.size > DIRECTORY_LIMIT:
            raise MountError(f"the central directory has {place.size} bytes; {DIRECTORY_LIMIT} are the limit")
        data = await read_bytes(self.disk, place.offset, place.size)
        catalogue = Catalogue(data, place.entries)
        if place.base:
            self.report(f"{place.base} bytes stand before the archive")
        self.serial = zlib.crc32(data)
        self.place = place
        self.details = {"entries": catalogue.entries}
        self.mounted(catalogue, catalogue.damage)

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
        if self.volume.damage:
            flags |= VolumeFlags.DIRTY
        return Data(label, request.registers._replace(eax=flags, ebx=self.serial, ecx=len(label)))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if they are not cached."""
        path = request.path()
        folder = await find(self.volume, path, self._target)
        if not isinstance(folder, Folder):
            raise directory_wanted(path)

        def build(version: int) -> Pages:
            files = (_listed(*child) for child in folder.children.items())
            return self.listed(path, files, len(folder.children), version)

        return await self.directories.lock(folder.number, build)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; FileSystemError(NOT_SUPPORTED) names encryption or a method that is not known."""
        path = request.path()
        entry = await find(self.volume, path, self._target)
        if isinstance(entry, Folder):
            raise file_wanted(path)
        file = await self._open(path, entry)
        return self.opened(request, file, entry.attributes, entry.size, entry.number)

    async def _open(self, path: str, entry: ZipEntry) -> OpenFile:
        if refusal := entry.refusal():
            self.report(f"{parse_path(path)} cannot be opened: {refusal}")
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"{parse_path(path)}: {refusal}")
        return await open_entry(self.disk, self.place, entry)

    async def _target(self, entry: ZipEntry) -> bytes:
        """Return where a symbolic link leads: the content of its entry."""
        file, points = await self._open(entry.name, entry), RestartPoints()
        try:
            return (await file.window(self.disk, points, 0, 0, entry.size)).data
        finally:
            self.inflated += points.inflated

    @operation(Operation.READ_LINK)
    async def read_link(self, request: Request) -> Reply:
        """Answer where a symbolic link leads."""
        path = request.path()
        entry = await find(self.volume, path, self._target, link=True)
        if isinstance(entry, Folder) or not entry.attributes & FileAttributes.SYMLINK:
            raise link_wanted(path)
        if not is_link(entry):
            raise FileSystemError(ErrorCode.CORRUPT, f"{parse_path(path)}: a link target of {entry.size} bytes")
        return self.link(request, await target_of(entry, self._target))

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        """Close a file number; windows of it that clients use stay."""
        self.files.remove(request.registers.eax)
        self.points.forget(request.registers.eax)
        return Registers(request.registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer with sectors if the data lie in whole ones, else with memory that holds a window of the file."""
        registers = request.registers
        file = self.files.get(registers.ebx)
        position = position_of(registers)
        if file.in_sectors:
            return sectors_reply(registers, file.locate(position, registers.ecx, self.geometry.start))
        try:
            window = await file.window(self.disk, self.points, registers.ebx, position, registers.ecx)
        finally:
            self.inflated, self.points.inflated = self.inflated + self.points.inflated, 0
        if not window.data:
            return Registers(answer_to(registers, window.position, 0))
        return await self.memory_reply(registers, window.position, window.data, len(window.data))


def _listed(name: str, child: Folder | ZipEntry) -> ListedFile:
    if isinstance(child, Folder):
        attributes = FileAttributes.DIRECTORY | FileAttributes.READ_ONLY
        return ListedFile(name, attributes, 0, child.modified, child.number << 32)
    return ListedFile(name, child.attributes, child.size, child.modified, child.number)
