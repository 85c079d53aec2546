"""Volumes: disks found, partitions probed, one server process each; paths resolved to them.

Mounting is the job of a kernel thread (`Mounts.run`): it reads each disk's partition table through the
disk cache, asks the servers' `probe` whose a partition is, starts a process for it, and asks that server
for its label; a partition that nobody knows or whose server dies is reported and skipped.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from callgate.disk.partitions import Partition as DiskPartition
from callgate.disk.partitions import ReadError, scan
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.control import field_text
from callgate.kernel.errors import PolicyError
from callgate.kernel.images import ROM_PROGRAMS, program_image
from callgate.kernel.machine.accounts import Account
from callgate.kernel.state import PartitionState
from callgate.server.hosted import HostedServer, VolumeGeometry

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

PROBE_SECTORS = 128  # 64 KiB
UNKNOWN = "no file system that a server knows"
GROUP = "callgate.servers"
READ_LIMIT = 256 * SECTORS_PER_PAGE  # most sectors that are locked at once


class Volumes:
    """Finding, mounting and naming volumes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.installed: list[type[HostedServer]] = []

    async def mount_all(self) -> None:
        """Mount the ROM, then every partition of every disk."""
        self.installed = installed_servers()
        self.mount_rom()
        self.kernel.plugging.start_watch()
        self.kernel.file_ageing.start()
        await self.kernel.plugging.mount_present()

    def mount_rom(self) -> None:
        """Start the server of the read-only volume with the system's programs."""
        files = {name: program_image(name).elf(debug=False, labels=True) for name in ROM_PROGRAMS}
        self.kernel.servers.start_rom(files)

    async def mount_disk(self, disk: int, base: str) -> None:
        """Read the partition table of a disk, named by its key, and mount what is there."""
        sectors = self.kernel.disk_sectors(disk)

        async def read(lba: int, count: int) -> bytes:
            try:
                return await self.read(disk, lba, count)
            except PolicyError as error:
                raise ReadError(str(error)) from error

        self.kernel.log(f"{base}: {sectors} sector{'s' * (sectors != 1)}, {self.kernel.disk_model(disk)}")
        try:
            layout = await scan(read, sectors)
        except ReadError as error:
            self.kernel.log(f"{base}: partition table cannot be read: {error}")
            return
        for problem in layout.problems:
            self.kernel.log(f"{base}: {problem}")
        for partition in layout.partitions:
            name = base if layout.scheme == "none" else f"{base}p{partition.number}"
            await self.mount(disk, partition, name)

    async def mount(self, disk: int, partition: DiskPartition, name: str) -> None:
        """Probe one partition and start its server; report and skip it if that fails."""
        count = min(PROBE_SECTORS, partition.sectors)
        try:
            first = await self.read(disk, partition.start, count)
            found = self.probe(first)
            if found is None:
                self.kernel.log(f"{name}: {await self.explain(disk, partition)}, skipped")
                return
            kind, server = found
            await self.start_server(server, kind, disk, partition, name)
        except PolicyError as error:
            self.kernel.log(f"{name}: not mounted: {error}")

    def probe(self, first: bytes) -> tuple[str, type[HostedServer]] | None:
        """Return (file system, server class) for the partition that starts with `first`, or None."""
        for server in self.installed:
            kind = server.probe(first)
            if kind is not None:
                return kind, server
        return None

    async def explain(self, disk: int, partition: DiskPartition) -> str:
        """Return what is known of a partition that no server claims."""
        count = min(PROBE_SECTORS, partition.sectors)
        with suppress(PolicyError):
            last = await self.read(disk, partition.start + partition.sectors - count, count)
            for server in self.installed:
                if text := server.explain(last):
                    return text
        return UNKNOWN

    async def start_server(
        self, server: type[HostedServer], kind: str, disk: int, partition: DiskPartition, name: str
    ) -> None:
        """Start a hosted server's process and wait until it serves or has died."""
        if not self.kernel.disk_there(disk):
            raise PolicyError(ErrorCode.UNPLUGGED, "the disk was removed")
        geometry = VolumeGeometry(name, partition.start, partition.sectors)
        state = self.kernel.servers.start_hosted(server, geometry, disk)
        state.file_system = kind
        await self.greet(state)

    async def greet(self, partition: PartitionState) -> None:
        """Ask a new server for its label: the first request is answered when it has mounted."""
        reply = await self.kernel.requests.make(partition, Operation.VOLUME)
        label = (await reply.take_data()).decode("utf-8", "replace")
        server = self.kernel.hosted.servers.get(partition.process.number) if partition.process else None
        if server is not None and server.kind:
            partition.file_system = server.kind
        self.kernel.log(f"/{partition.name}: {partition.file_system}, label {label or '(none)'}")

    async def describe(self, partition: PartitionState) -> VolumeInformation:
        """Ask a volume's server for its label and free space; what it does not answer stays zero.

        A server need not know of free space, and one that dies of the question must not hide the volumes behind it.
        """
        information = VolumeInformation(number=partition.number)
        information.name = field_text(partition.name.encode(), 16)
        information.file_system = field_text(partition.file_system.encode(), 16)
        try:
            reply = await self.kernel.requests.make(partition, Operation.VOLUME)
            information.flags, information.serial = reply.registers.eax, reply.registers.ebx
            information.label = field_text(await reply.take_data(), 64)
            reply = await self.kernel.requests.make(partition, Operation.FREE_SPACE)
            registers = reply.registers
            await reply.finish()
        except PolicyError:
            information.flags |= VolumeFlags.NO_FREE_SPACE
            return information
        information.cluster_bytes = registers.ecx
        information.free_clusters = registers.edx << 32 | registers.eax
        information.total_clusters = registers.edi << 32 | registers.esi
        return information

    async def read(self, disk: int, lba: int, count: int) -> bytes:
        """Return sectors of a disk through the cache; only metadata is read this way."""
        data = b""
        while count:
            piece = min(count, READ_LIMIT)
            data += await self._read_piece(disk, lba, piece)
            lba += piece
            count -= piece
        return data

    async def _read_piece(self, disk: int, lba: int, count: int) -> bytes:
        first, last = lba // SECTORS_PER_PAGE, (lba + count - 1) // SECTORS_PER_PAGE
        locked = await self.kernel.cache.read_locked(disk, list(range(first, last + 1)))
        data = b"".join(self.kernel.machine.ram.read(frame, PAGE_SIZE, Account.METADATA) for frame in locked.frames)
        self.kernel.cache.unlock(locked.keys)
        start = (lba - first * SECTORS_PER_PAGE) * SECTOR_SIZE
        return data[start : start + count * SECTOR_SIZE]

    def resolve(self, path: bytes) -> tuple[PartitionState | None, bytes]:
        """Split an absolute path into its volume and the rest; (None, b"") for the root directory."""
        if not path.startswith(b"/"):
            raise PolicyError(ErrorCode.BAD_ARGUMENT, "a path starts with /")
        name, _, rest = path.lstrip(b"/").partition(b"/")
        if not name:
            return None, b""
        text = name.decode("utf-8", "replace").lower()
        error = ErrorCode.NOT_FOUND
        for partition in self.kernel.state.partitions.values():
            if partition.name == text and not partition.hidden:
                if not partition.dead:
                    return partition, rest
                error = partition.error
        raise PolicyError(error)


def installed_servers() -> list[type[HostedServer]]:
    """Return the server classes that installed packages offer, in order of their names."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    servers = []
    for entry in found:
        server = entry.load()
        if not (isinstance(server, type) and issubclass(server, HostedServer)):
            raise TypeError(f"entry point {entry.name} of {GROUP} is no HostedServer: {entry.value}")
        servers.append(server)
    return servers
