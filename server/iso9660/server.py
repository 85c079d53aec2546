"""The ISO 9660 server: the operations of a file-system server over a mounted `IsoVolume`."""

from typing import Final

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError
from callgate.server.gate import LOW_DWORD
from callgate.server.hosted import VolumeGeometry, operation
from callgate.server.iso9660.directory import Entry
from callgate.server.iso9660.probe import Iso9660Probe
from callgate.server.iso9660.structures import Extent
from callgate.server.iso9660.volume import IsoVolume
from callgate.server.listing import ListedFile
from callgate.server.message import Data, Registers, Reply, Request, ServerMemory
from callgate.server.mounted import (
    MountedServer,
    directory_wanted,
    file_wanted,
    link_wanted,
    position_of,
    sectors_reply,
)
from callgate.server.paths import parse_path
from callgate.server.versions import Pages

IDENTITIES_LIMIT: Final = 65536  # files whose extents are remembered, to tell links from overlaps
_RECORD_GRAIN: Final = 32  # records begin at least this many bytes apart


class IsoServer(MountedServer[IsoVolume, Entry], Iso9660Probe):
    """Serves one ISO 9660 volume."""

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self._identities: dict[int, tuple[Extent, ...]] = {}

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await IsoVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        self.details = {"block_bytes": volume.tree.block_bytes, "blocks": volume.tree.blocks}
        self.mounted(volume, volume.damage)
        self.kind = volume.kind
        if volume.udf:
            self.report("the disc is also a UDF volume, which is not read: what only UDF shows is missing")

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        """Answer with the size of the volume; nothing of it is ever free."""
        tree = self.volume.tree
        registers = request.registers._replace(eax=0, edx=0, ecx=tree.block_bytes, esi=tree.blocks, edi=0)
        return Registers(registers)

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        """Answer with label, time of creation as the serial number, and flags."""
        volume = self.volume
        label = volume.tree.label.encode("utf-8", "replace")
        flags = VolumeFlags.READ_ONLY
        if volume.skip is not None:
            flags |= VolumeFlags.CASE_SENSITIVE
        if volume.damage:
            flags |= VolumeFlags.DIRTY
        return Data(label, request.registers._replace(eax=flags, ebx=volume.tree.created & LOW_DWORD, ecx=len(label)))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if they are not cached."""
        path = request.path()
        entry = await self.volume.find(path)
        if not entry.is_directory:
            raise directory_wanted(path)
        directory = await self.volume.directory(entry)

        def build(version: int) -> Pages:
            if entry is not self.volume.root:
                self.report_directory(path, directory.damage)
            return self.listed(path, map(self._listed, directory.entries), len(directory.entries), version)

        return await self.directories.lock(entry.block, build)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; FileSystemError(NOT_SUPPORTED) names what cannot be read."""
        path = request.path()
        entry = await self.volume.find(path)
        if entry.is_directory:
            raise file_wanted(path)
        if entry.refusal:
            self.report(f"{parse_path(path)} cannot be opened: {entry.refusal}")
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"{parse_path(path)}: {entry.refusal}")
        return self.opened(request, entry, entry.attributes, entry.size, self._identity(entry))

    @operation(Operation.READ_LINK)
    async def read_link(self, request: Request) -> Reply:
        """Answer where a symbolic link leads."""
        path = request.path()
        entry = await self.volume.find(path, link=True)
        if entry.target is None:
            raise link_wanted(path)
        return self.link(request, entry.target)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; EAX and EDX:ECX as in docs/writing-a-server.md."""
        registers = request.registers
        entry = self.files.get(registers.ebx)
        position = position_of(registers)
        extract = self.volume.locate(entry, position, registers.ecx, self.geometry.start)
        return sectors_reply(registers, extract)

    def _identity(self, entry: Entry) -> int:
        """Return the identity that all links to a file share: twice its location.

        Of an empty file, of an extent that another file uses differently, and beyond IDENTITIES_LIMIT files, an odd
        number made of the record's place; 0 if that does not fit.
        """
        location = entry.block * 2
        if entry.size and 0 < location <= LOW_DWORD:
            known = self._identities.get(location)
            if known is None and len(self._identities) < IDENTITIES_LIMIT:
                self._identities[location] = known = entry.extents
            if known == entry.extents:
                return location
        own = entry.place // _RECORD_GRAIN * 2 + 1
        return own if own <= LOW_DWORD else 0

    def _listed(self, entry: Entry) -> ListedFile:
        size = 0 if entry.is_directory or entry.target is not None else entry.size
        place = entry.block * self.volume.tree.block_bytes // SECTOR_SIZE if entry.size else entry.place
        return ListedFile(entry.name, entry.attributes, size, entry.modified, place)
