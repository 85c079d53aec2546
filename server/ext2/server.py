"""The ext2 server: the operations of a file-system server over a mounted `ExtVolume`."""

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.common.recent import Recent
from callgate.server.disk import Disk
from callgate.server.errors import FileSystemError
from callgate.server.ext2.file import locate
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.listing import Listing, list_directory
from callgate.server.ext2.paths import find
from callgate.server.ext2.probe import Ext2Probe
from callgate.server.ext2.structures import KIND_NAMES, Kind
from callgate.server.ext2.volume import DIRECTORIES_KEPT, ENTRIES_KEPT, ExtVolume
from callgate.server.gate import LOW_DWORD
from callgate.server.hosted import VolumeGeometry, operation
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


class Ext2Server(MountedServer[ExtVolume, Inode], Ext2Probe):
    """Serves one ext2, ext3 or ext4 partition, read-only."""

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self._listings: Recent[Listing] = Recent(DIRECTORIES_KEPT, ENTRIES_KEPT)

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await ExtVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        self.details = {"block_bytes": volume.layout.block_bytes, "blocks": volume.layout.blocks}
        self.mounted(volume, volume.damage)

    async def handle(self, request: Request) -> Reply:
        """Dispatch, and report when the disk made us use a backup of the group descriptors."""
        try:
            return await super().handle(request)
        finally:
            for text in self._volume.groups.take_fallback() if self._volume else ():
                self.report(text)

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        """Answer with the blocks counted at start: all of them and the free ones."""
        free, blocks = self.volume.usage.free, self.volume.layout.blocks
        return Registers(
            request.registers._replace(
                eax=free & LOW_DWORD,
                edx=free >> 32,
                ecx=self.volume.layout.block_bytes,
                esi=blocks & LOW_DWORD,
                edi=blocks >> 32,
            )
        )

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        """Answer with label, serial number (the UUID's first 32 bits) and flags."""
        label = self.volume.label.encode("utf-8")
        flags = VolumeFlags.READ_ONLY | VolumeFlags.CASE_SENSITIVE
        if self.volume.dirty:
            flags |= VolumeFlags.DIRTY
        return Data(label, request.registers._replace(eax=flags, ebx=self.volume.serial, ecx=len(label)))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        """Lock a directory's pages, building them if they are not cached."""
        path = request.path()
        inode = await find(self.volume, path)
        if not inode.is_directory:
            raise directory_wanted(path)
        listing = await self._listing(path, inode)

        def build(version: int) -> Pages:
            return self.listed(path, listing.files, listing.entries, version)

        return await self.directories.lock(inode.number, build, lasting=listing.lasting)

    async def _listing(self, path: str, inode: Inode) -> Listing:
        listing = self._listings.get(inode.number)
        if listing is None:
            listing, damage = await list_directory(self.volume, await self.volume.directory(inode))
            self.report_directory(path, damage)
            if listing.lasting:
                self._listings.keep(inode.number, listing, len(listing.files))
        return listing

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; each open has a number of its own, and the inode's number tells which file it is."""
        path = request.path()
        inode = await find(self.volume, path)
        if inode.is_directory:
            raise file_wanted(path)
        if inode.kind is not Kind.REGULAR:
            raise FileSystemError(ErrorCode.NOT_SUPPORTED, f"{parse_path(path)} is a {KIND_NAMES[inode.kind]}")
        return self.opened(request, inode, inode.attributes, inode.size, inode.number)

    @operation(Operation.READ_LINK)
    async def read_link(self, request: Request) -> Reply:
        """Answer with the target of a symbolic link."""
        path = request.path()
        inode = await find(self.volume, path, link=True)
        if inode.kind is not Kind.SYMLINK:
            raise link_wanted(path)
        return self.link(request, await self.volume.link_target(inode))

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; their data is the kernel's business.

        EAX becomes the bytes covered, EDX:ECX the position they begin at: that asked for, rounded down to
        a sector.  Nothing is covered at the end of the file.
        """
        registers = request.registers
        inode = self.files.get(registers.ebx)
        position = position_of(registers)
        extract = await locate(self.volume, inode, position, registers.ecx, self.geometry.start)
        return sectors_reply(registers, extract)
