"""Mounting the volumes of an image on the host as a booting system does it, by the same servers in rehearsal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from callgate.disk.media import Medium
from callgate.disk.partitioning.foreign import name_foreign
from callgate.disk.partitioning.partitions import DiskLayout, Partition, Reader, ReadError, forgiving, run_sync, scan
from callgate.kernel.common.record import replaced
from callgate.kernel.servers.packages import installed_servers
from callgate.server.errors import FileSystemError
from callgate.server.probing import Claimants, Known, Say, explain, kind_by_beginning, unsaid
from callgate.server.raised import describe, last_frames
from callgate.tools.inspection.volume_walk import VolumeWalk, sectors_reader


@dataclass(frozen=True, slots=True)
class Mounted:
    """The result of mounting a partition.

    `kind` is the file system, "" if it is unknown. Without a `walk` it could not be mounted, for `reason` if that is
    known.  `problems` are servers that could not tell, and others that could not mount it.
    """

    partition: Partition
    kind: str = ""
    walk: VolumeWalk | None = None
    reason: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def said(self) -> list[str]:
        """All its problems, without those that the server of a mounted volume reports."""
        return [*([self.reason] if self.reason else []), *self.problems]


def mount_all(medium: Medium) -> tuple[DiskLayout, list[Mounted]]:
    """Mount what is on a medium; return its layout, and the result for each partition.

    If no partition can be mounted, and sector 0 can be read in another way of which one can, that is the layout.
    """
    servers = installed_servers()
    layout = read_layout(medium, servers)
    mounted = [mount(medium, partition, servers) for partition in layout.partitions]
    if layout.otherwise is None or any(each.walk for each in mounted):
        return layout, mounted
    others = [mount(medium, partition, servers) for partition in layout.otherwise.partitions]
    problems = [*layout.problems, *_named(mounted), *layout.otherwise.problems]
    if any(each.walk for each in others):
        return replaced(layout.otherwise, problems=problems), others
    return replaced(layout, problems=[*layout.problems, *layout.otherwise.problems, *_named(others)]), mounted


def _named(mounted: list[Mounted]) -> list[str]:
    return [
        f"{f'partition {each.partition.number}' if each.partition.number else 'whole disk'}: {text}"
        for each in mounted
        for text in each.said
    ]


def read_layout(medium: Medium, servers: Known) -> DiskLayout:
    """Find the partitions of a medium, with servers as judges."""

    async def judge(partition: Partition) -> str | None:
        read = forgiving(sectors_reader(medium, partition.start))
        return await kind_by_beginning(servers, read, partition.sectors, unsaid)

    try:
        return run_sync(scan(sectors_reader(medium), medium.sector_count, judge))
    except ReadError as error:
        return DiskLayout("none", problems=[f"the partition table cannot be read: {error}"])


def mount(medium: Medium, partition: Partition, servers: Known) -> Mounted:
    """Have the first server that claims a partition and can mount it do so."""
    broken: list[str] = []
    try:
        found = run_sync(_mount(medium, partition, servers, broken.append))
    except ReadError as error:
        return Mounted(partition, reason=str(error), problems=broken)
    return replace(found, problems=[*found.problems, *broken])


async def _mount(medium: Medium, partition: Partition, servers: Known, say: Say) -> Mounted:
    read = forgiving(sectors_reader(medium, partition.start))
    failed: list[tuple[str, str]] = []
    async for found in Claimants(servers, read, partition.sectors, say):
        try:
            walk = VolumeWalk(found.server, medium, partition.start, partition.sectors)
            walk.greet()
        except FileSystemError as error:
            failed.append((found.kind, f"cannot be mounted: {error.text}"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - any exception, SystemExit too, would end the server
            failed.append((found.kind, raised(error)))
        else:
            return Mounted(partition, found.kind, walk, problems=[f"{kind}: {text}" for kind, text in failed])
    if failed:
        (kind, reason), *others = failed
        return Mounted(partition, kind, reason=reason, problems=[f"{kind}: {text}" for kind, text in others])
    return await _unclaimed(partition, servers, read, say)


async def _unclaimed(partition: Partition, servers: Known, read: Reader, say: Say) -> Mounted:
    """Describe a partition that no server claims."""
    text = await explain(servers, read, partition.sectors, say)
    if text:
        return Mounted(partition, reason=text)
    found = await name_foreign(read, partition.sectors)
    return Mounted(partition, found.kind, reason=str(found)) if found else Mounted(partition)


def raised(error: BaseException) -> str:
    """Return the report of a server that has raised an exception."""
    return ": ".join([f"its server raised {describe(error)}", *last_frames(error)[-1:]])
