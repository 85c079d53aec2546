"""Volumes: disks found, partitions probed, one server process each.

Mounting is the job of kernel threads (kernel/servers/mounting.py): one for each disk reads its partition table through
the disk cache; one for each partition asks the servers' `probe` which of them recognises it, starts a process for it,
and asks that server for its label.  If that server dies or does not answer in time, the next one that claims the
partition has its turn.  A partition that no server recognises or can mount is reported and skipped.
"""

from __future__ import annotations

from functools import partial

from callgate.disk.partitioning.partitions import DiskLayout, Reader, ReadError, forgiving, scan
from callgate.disk.partitioning.partitions import Partition as DiskPartition
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import DiskError, Overdue, PolicyError, ServerFault, ServerShortage, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import EndpointState
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.programs.images import ROM_PROGRAMS, program_file
from callgate.kernel.servers.lifecycle import Servers
from callgate.kernel.servers.mounting import Mounting, Report
from callgate.kernel.servers.packages import broken_servers, installed_servers
from callgate.kernel.storage.disk_reader import DiskReader
from callgate.kernel.storage.disks import Disks
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE
from callgate.server.hosted import Recogniser, VolumeGeometry
from callgate.server.probing import Claim, Claimants, explain, kind_by_beginning, unsaid

#: Errors after which another server would not succeed either.
FUTILE = (Shortage, ServerShortage, DiskError)
UNKNOWN = "no file system that a server knows"


class Volumes:
    """Finding, mounting and naming volumes."""

    def __init__(
        self,
        guest: Guest,
        disks: Disks,
        reader: DiskReader,
        requests: Requests,
        servers: Servers,
        mounting: Mounting,
    ) -> None:
        self.guest = guest
        self.disks = disks
        self.reader = reader
        self.requests = requests
        self.servers = servers
        self.mounting = mounting
        self.log = mounting.log
        self.installed: list[type[Recogniser]] = []
        self.files: dict[str, bytes] = {}  # of the ROM volume, beside the programs

    def find_servers(self) -> None:
        """Look up the servers that are installed; log which of them cannot be used."""
        self.installed = installed_servers()
        for problem in broken_servers():
            self.log(problem)

    def mount_rom(self) -> None:
        """Start the server of the read-only volume with the system's programs."""
        files = {name: program_file(name) for name in ROM_PROGRAMS}
        self.servers.start_rom(files | self.files)

    async def mount_disk(self, disk: int, report: Report) -> None:
        """Read the partition table of a disk, named by its key, and have its partitions mounted."""
        base, say = report.name, partial(self.mounting.say, report)
        sectors = self.disks.sectors(disk)
        say(f"{base}: {sectors} sector{'s' * (sectors != 1)}, {self.disks.model(disk)}")

        async def judge(partition: DiskPartition) -> str | None:
            read = forgiving(self.reader.reader(disk, partition.start))
            # `mount` will say what is wrong.
            return await kind_by_beginning(self.installed, read, partition.sectors, unsaid, self.servers.hosted.limited)

        try:
            layout = await scan(self.reader.reader(disk), sectors, judge)
        except ReadError as error:
            say(f"{base}: partition table cannot be read: {error}")
            return
        await self.mount_layout(disk, layout, report)

    async def mount_layout(self, disk: int, layout: DiskLayout, report: Report) -> None:
        """Log the faults of a partition table, and have each partition mounted by a thread of its own.

        If none of them can be, and sector 0 can be read in another way, that is tried.
        """
        base, place, first = report.name, report.place, report.partition + 1
        for problem in layout.problems:
            self.mounting.say(report, f"{base}: {problem}")
        waiting, mounted = len(layout.partitions), False

        async def work(partition: DiskPartition, report: Report) -> None:
            nonlocal waiting, mounted
            mounted |= await self.mount(disk, partition, report)
            waiting -= 1
            if layout.otherwise is not None and not waiting and not mounted and self.disks.there(disk):
                instead = Report(place, first + len(layout.partitions), base)
                self.mounting.start(instead, partial(self.mount_layout, disk, layout.otherwise))

        for index, partition in enumerate(layout.partitions, first):
            name = base if layout.scheme == "none" else f"{base}p{partition.number}"
            self.mounting.start(Report(place, index, name), partial(work, partition))

    async def mount(self, disk: int, partition: DiskPartition, report: Report) -> bool:
        """Have the first server that claims a partition and can mount it do so; report it if there is none."""
        name, say = report.name, partial(self.mounting.say, report)
        read, limited = forgiving(self.reader.reader(disk, partition.start)), self.servers.hosted.limited
        claimed = False
        try:
            async for found in Claimants(self.installed, read, partition.sectors, self.log, limited):
                if claimed:
                    say(f"{name}: a server also knows it as {found.kind}, which is tried")
                claimed = True
                try:
                    say(await self.start_server(found, disk, partition, name))
                except PolicyError as error:
                    say(f"{name}: not mounted: {error}")
                    if isinstance(error, FUTILE):
                        break
                else:
                    return True
            if not claimed:
                say(f"{name}: {await self.explain(read, partition.sectors)}")
        except (ReadError, PolicyError) as error:
            say(f"{name}: not mounted: {error}")
        return False

    async def explain(self, read: Reader, sectors: int) -> str:
        """Return the log line for a partition that no server claims."""
        if text := await explain(self.installed, read, sectors, self.log, self.servers.hosted.limited):
            return f"{text}, skipped"
        from callgate.disk.partitioning.foreign import name_foreign

        found = await name_foreign(read, sectors)
        if found is None:
            return f"{UNKNOWN}, skipped"
        return f"{found.text}, skipped" + f"; {found.hint}" * bool(found.hint)

    async def start_server(self, claim: Claim, disk: int, partition: DiskPartition, name: str) -> str:
        """Start a hosted server's process and wait until it serves; return the log line for the volume.

        A server that does not answer, or answers with an error, is ended; PolicyError.
        """
        if not self.disks.there(disk):
            raise DiskError(ErrorCode.UNPLUGGED, "the disk was removed")
        geometry = VolumeGeometry(name, partition.start, partition.sectors)
        state = self.servers.start_hosted(claim.server, geometry, disk)
        state.file_system = claim.kind
        state.mounting = True
        try:
            label = await self.greet(state)
        except PolicyError as error:
            if not state.dead and state.process is not None:
                self.servers.kill(state.process, f"it did not mount: {error}")
            raise
        state.mounting = False
        self.mounting.there()
        return f"/{state.name}: {state.file_system}, label {label or '(none)'}"

    async def greet(self, endpoint: EndpointState) -> str:
        """Return the label that a new server gives: the first request is answered when it has mounted.

        One that does not answer before its deadline is killed.
        """
        deadline = self.guest.now + self.mounting.deadline
        try:
            reply = await self.requests.make_until(deadline, endpoint, Operation.VOLUME)
        except Overdue:
            endpoint.reason = f"it did not mount within {self.mounting.deadline / 1e6:g} ms of virtual time"
            self.servers.lifetimes.die(endpoint, ErrorCode.SERVER_DIED)
            assert endpoint.process is not None
            self.servers.processes.kill(endpoint.process, KILLED_EXIT_CODE, endpoint.reason)
            raise ServerFault(ErrorCode.SERVER_DIED, f"{endpoint.reason} (--mount-deadline)") from None
        label = (await reply.take_data()).decode("utf-8", "replace")
        server = self.servers.hosted.servers.get(endpoint.process.number) if endpoint.process else None
        if server is not None and server.kind:
            endpoint.file_system = str(server.kind)
        return label
