"""The FAT server: the operations of a file-system server over a mounted `FatVolume`."""

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.server.disk import Disk
from callgate.server.fat.directory import FatEntry
from callgate.server.fat.file import OpenFile
from callgate.server.fat.probe import FatProbe
from callgate.server.fat.volume import FatVolume
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile
from callgate.server.message import Data, Registers, Reply, Request
from callgate.server.mounted import MountedServer, directory_wanted, file_wanted, position_of, sectors_reply
from callgate.server.paths import parse_path
from callgate.server.versions import Pages


class FatServer(MountedServer[FatVolume, OpenFile], FatProbe):
    """Serves one FAT12, FAT16 or FAT32 partition, read-only."""

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await FatVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        self.details = volume.layout.details()
        self.mounted(volume, volume.damage)

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
        """Lock a directory's pages, building them if they are not cached."""
        path = request.path()
        entry = await self.volume.find(path)
        if not entry.is_directory:
            raise directory_wanted(path)
        directory = await self.volume.directory(entry)

        def build(version: int) -> Pages:
            self.report_directory(path, (directory.truncated, *directory.damage))
            return self.listed(path, map(_listed, directory.entries), len(directory.entries), version)

        return await self.directories.lock(entry.cluster, build)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; each open has a number of its own."""
        path = request.path()
        entry = await self.volume.find(path)
        if entry.is_directory:
            raise file_wanted(path)
        file = OpenFile(str(parse_path(path)), entry)
        return self.opened(request, file, entry.attributes, entry.size, entry.identifier)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; their data is the kernel's business.

        EAX becomes the bytes covered, EDX:ECX the position they begin at: that asked for, rounded down to
        a sector.  Nothing is covered at the end of the file.
        """
        registers = request.registers
        file = self.files.get(registers.ebx)
        position = position_of(registers)
        extract = await file.locate(self.volume, position, registers.ecx, self.geometry.start)
        return sectors_reply(registers, extract)


def _listed(entry: FatEntry) -> ListedFile:
    return ListedFile(entry.name, entry.attributes, entry.size, entry.modified, entry.identifier)
