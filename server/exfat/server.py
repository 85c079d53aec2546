"""The exFAT server: the operations of a file-system server over a mounted `ExfatVolume`."""

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.server.disk import Disk
from callgate.server.exfat.directory import ExfatEntry
from callgate.server.exfat.file import OpenFile
from callgate.server.exfat.probe import ExfatProbe
from callgate.server.exfat.volume import ExfatVolume
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile
from callgate.server.message import Data, Registers, RegisterValues, Reply, Request
from callgate.server.mounted import MountedServer, directory_wanted, file_wanted, position_of, sectors_reply
from callgate.server.paths import parse_path
from callgate.server.versions import Pages


class ExfatServer(MountedServer[ExfatVolume, OpenFile], ExfatProbe):
    """Serves one exFAT volume, read-only."""

    async def start(self) -> None:
        """Mount the partition; MountError names what is wrong with it."""
        volume = await ExfatVolume.mount(Disk(self.memory, self.geometry), self.geometry.sectors)
        self.details = volume.layout.details()
        self.mounted(volume, volume.damage)

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
        """Lock a directory's pages, building them if they are not cached."""
        path = request.path()
        entry = await self.volume.find(path)
        if not entry.is_directory:
            raise directory_wanted(path)
        directory = await self.volume.directory(entry)

        def build(version: int) -> Pages:
            if entry is not self.volume.root:
                self.report_directory(path, (directory.truncated, *directory.damage))
            return self.listed(path, map(_listed, directory.entries), len(directory.entries), version)

        return await self.directories.lock(entry.identifier, build)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        """Open a file; each open has a number of its own."""
        path = request.path()
        entry = await self.volume.find(path)
        if entry.is_directory:
            raise file_wanted(path)
        file = OpenFile(str(parse_path(path)), entry, self.volume)
        return self.opened(request, file, entry.attributes, entry.size, entry.identifier)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        """Answer which sectors hold a part of a file; with memory for the sector in which its valid bytes end."""
        registers = request.registers
        file = self.files.get(registers.ebx)
        position = position_of(registers)
        if file.is_mixed(position) and position < file.entry.size and registers.ecx:
            return await self._mixed(file, position, registers)
        extract = await file.locate(self.volume, position, registers.ecx, self.geometry.start)
        return sectors_reply(registers, extract)

    async def _mixed(self, file: OpenFile, position: int, registers: RegisterValues) -> Reply:
        begin, data = await file.mixed_page(self.volume, position)
        covered = min(len(data), file.entry.size - begin)
        return await self.memory_reply(registers, begin, data, covered)


def _listed(entry: ExfatEntry) -> ListedFile:
    size = 0 if entry.is_directory else entry.size
    return ListedFile(entry.name, entry.attributes, size, entry.modified, entry.identifier)
