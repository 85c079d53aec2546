"""Volumes: disks found, partitions probed, one server process each; paths resolved to them.

Mounting is the job of kernel threads (kernel/mounting.py): one for each disk reads its partition table through the
disk cache; one for each partition asks the servers' `probe` whose it is, starts a process for it, and asks that server
for its label.  If that server dies or does not answer in time, the next one that claims the partition has its turn.
What nobody knows or can mount is reported and skipped.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from callgate.disk.partitions import DiskLayout, Reader, ReadError, forgiving, scan
from callgate.disk.partitions import Partition as DiskPartition
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.control import field_text
from callgate.kernel.errors import Overdue, PolicyError
from callgate.kernel.images import ROM_PROGRAMS, program_file
from callgate.kernel.machine.accounts import Account
from callgate.kernel.mounting import Report
from callgate.kernel.processes import KILLED_EXIT_CODE
from callgate.kernel.records import PartitionState
from callgate.kernel.server_packages import broken_servers, installed_servers
from callgate.server.hosted import HostedServer, VolumeGeometry
from callgate.server.probing import Claim, Claimants, claim_by_beginning, explain, unsaid

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

PATIENCE = 1_000_000_000  # nanoseconds of virtual time that a server has to say what its volume is
BRIEFLY = 10_000_000  # the same for a caller that asks again later
FUTILE = frozenset({ErrorCode.NO_MEMORY, ErrorCode.NO_RESOURCES, ErrorCode.UNPLUGGED})  # another server fares no better
UNKNOWN = "no file system that a server knows"
READ_LIMIT = 256 * SECTORS_PER_PAGE  # most sectors that are locked at once


class Volumes:
    """Finding, mounting and naming volumes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.installed: list[type[HostedServer]] = []
        self.files: dict[str, bytes] = {}  # of the ROM volume, beside the programs

    async def mount_all(self, *, first: bool = False) -> None:
        """Mount the ROM and every partition of every disk; with `first`, do not wait long when one is there."""
        self.installed = installed_servers()
        for problem in broken_servers():
            self.kernel.log(problem)
        self.mount_rom()
        self.kernel.disk_watch.start()
        self.kernel.file_ageing.start()
        self.kernel.give_backs.start()
        self.kernel.plugging.mount_present()
        await self.kernel.mounting.settled(first=first)

    def mount_rom(self) -> None:
        """Start the server of the read-only volume with the system's programs."""
        files = {name: program_file(name) for name in ROM_PROGRAMS}
        self.kernel.servers.start_rom(files | self.files)

    async def mount_disk(self, disk: int, report: Report) -> None:
        """Read the partition table of a disk, named by its key, and have what is there mounted."""
        base, say = report.name, partial(self.kernel.mounting.say, report)
        sectors = self.kernel.disks.sectors(disk)
        say(f"{base}: {sectors} sector{'s' * (sectors != 1)}, {self.kernel.disks.model(disk)}")

        async def judge(partition: DiskPartition) -> str | None:
            read = forgiving(self.reader(disk, partition.start))
            found = await claim_by_beginning(self.installed, read, partition.sectors, unsaid)  # `mount` will say it
            return found.kind if found else None

        try:
            layout = await scan(self.reader(disk), sectors, judge)
        except ReadError as error:
            say(f"{base}: partition table cannot be read: {error}")
            return
        await self.mount_layout(disk, layout, report)

    async def mount_layout(self, disk: int, layout: DiskLayout, report: Report) -> None:
        """Say what is wrong with a partition table, and have each partition mounted by a thread of its own.

        If none of them can be, and sector 0 can be read in another way, that is tried.
        """
        base, place, first = report.name, report.place, report.partition + 1
        for problem in layout.problems:
            self.kernel.mounting.say(report, f"{base}: {problem}")
        waiting, mounted = len(layout.partitions), False

        async def work(partition: DiskPartition, report: Report) -> None:
            nonlocal waiting, mounted
            mounted |= await self.mount(disk, partition, report)
            waiting -= 1
            if layout.otherwise is not None and not waiting and not mounted and self.kernel.disks.there(disk):
                instead = Report(place, first + len(layout.partitions), base)
                self.kernel.mounting.start(instead, partial(self.mount_layout, disk, layout.otherwise))

        for index, partition in enumerate(layout.partitions, first):
            name = base if layout.scheme == "none" else f"{base}p{partition.number}"
            self.kernel.mounting.start(Report(place, index, name), partial(work, partition))

    async def mount(self, disk: int, partition: DiskPartition, report: Report) -> bool:
        """Have the first server that claims a partition and can mount it do so; report it if there is none."""
        name, say = report.name, partial(self.kernel.mounting.say, report)
        read = forgiving(self.reader(disk, partition.start))
        claimed = False
        try:
            async for found in Claimants(self.installed, read, partition.sectors, self.kernel.log):
                if claimed:
                    say(f"{name}: a server also knows it as {found.kind}, which is tried")
                claimed = True
                try:
                    say(await self.start_server(found, disk, partition, name))
                except PolicyError as error:
                    say(f"{name}: not mounted: {error}")
                    if error.code in FUTILE:
                        break
                else:
                    return True
            if not claimed:
                say(f"{name}: {await self.explain(read, partition.sectors)}")
        except (ReadError, PolicyError) as error:
            say(f"{name}: not mounted: {error}")
        return False

    async def explain(self, read: Reader, sectors: int) -> str:
        """Return what is said of a partition that no server claims."""
        if text := await explain(self.installed, read, sectors, self.kernel.log):
            return f"{text}, skipped"
        from callgate.disk.foreign import name_foreign

        found = await name_foreign(read, sectors)
        if found is None:
            return f"{UNKNOWN}, skipped"
        return f"{found.text}, skipped" + f"; {found.hint}" * bool(found.hint)

    async def start_server(self, claim: Claim, disk: int, partition: DiskPartition, name: str) -> str:
        """Start a hosted server's process and wait until it serves; return what is to be said of the volume.

        A server that does not answer, or answers with an error, is ended; PolicyError.
        """
        if not self.kernel.disks.there(disk):
            raise PolicyError(ErrorCode.UNPLUGGED, "the disk was removed")
        geometry = VolumeGeometry(name, partition.start, partition.sectors)
        state = self.kernel.servers.start_hosted(claim.server, geometry, disk)
        state.file_system = claim.kind
        state.mounting = True
        try:
            label = await self.greet(state)
        except PolicyError as error:
            if not state.dead and state.process is not None:
                self.kernel.servers.kill(state.process, f"it did not mount: {error}")
            raise
        state.mounting = False
        self.kernel.mounting.there()
        return f"/{state.name}: {state.file_system}, label {label or '(none)'}"

    async def greet(self, partition: PartitionState) -> str:
        """Return the label that a new server gives: the first request is answered when it has mounted.

        One that does not answer before its deadline is killed.
        """
        deadline = self.kernel.guest.now + self.kernel.mounting.deadline
        try:
            reply = await self.kernel.requests.make_until(deadline, partition, Operation.VOLUME)
        except Overdue:
            partition.reason = f"it did not mount within {self.kernel.mounting.deadline / 1e6:g} ms of virtual time"
            self.kernel.partition_servers.die(partition, ErrorCode.SERVER_DIED)
            assert partition.process is not None
            self.kernel.processes.kill(partition.process, KILLED_EXIT_CODE, partition.reason)
            raise PolicyError(ErrorCode.SERVER_DIED, f"{partition.reason} (--mount-deadline)") from None
        label = (await reply.take_data()).decode("utf-8", "replace")
        server = self.kernel.hosted.servers.get(partition.process.number) if partition.process else None
        if server is not None and server.kind:
            partition.file_system = str(server.kind)
        return label

    def known(self, partition: PartitionState) -> VolumeInformation:
        """Return what is known of a volume without asking its server."""
        information = VolumeInformation(number=partition.number)
        information.name = field_text(partition.name.encode(), 16)
        information.file_system = field_text(partition.file_system.encode(), 16)
        return information

    async def describe(self, partition: PartitionState, patience: int) -> VolumeInformation:
        """Ask a volume's server for its label and free space; what it does not answer stays zero.

        A server need not know of free space, and one that dies of the question or does not answer within `patience`
        nanoseconds of virtual time must not hide the others.  KILLED and INTERRUPTED are the caller's.
        """
        information = self.known(partition)
        requests, deadline = self.kernel.requests, self.kernel.guest.now + patience
        try:
            reply = await requests.make_until(deadline, partition, Operation.VOLUME)
            information.flags = reply.registers.eax & ~VolumeFlags.NOT_ANSWERED
            information.serial = reply.registers.ebx
            information.label = field_text(await reply.take_data(), 64)
            reply = await requests.make_until(deadline, partition, Operation.FREE_SPACE)
            registers = reply.registers
            await reply.finish()
        except Overdue:
            information.flags |= VolumeFlags.NO_FREE_SPACE | VolumeFlags.NOT_ANSWERED
            return information
        except PolicyError as error:
            if error.code in {ErrorCode.KILLED, ErrorCode.INTERRUPTED}:
                raise
            information.flags |= VolumeFlags.NO_FREE_SPACE
            return information
        information.cluster_bytes = registers.ecx
        information.free_clusters = registers.edx << 32 | registers.eax
        information.total_clusters = registers.edi << 32 | registers.esi
        return information

    def reader(self, disk: int, start: int = 0) -> Reader:
        """Return what reads sectors from LBA `start` on of a disk; it raises ReadError."""

        async def read(sector: int, count: int) -> bytes:
            try:
                return await self.read(disk, start + sector, count)
            except PolicyError as error:
                raise ReadError(str(error)) from error

        return read

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
