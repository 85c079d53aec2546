"""Disks that are plugged in and removed while the system runs.

A disk is named by its key: place and generation, so that nothing of an earlier disk can be taken for the present one's.
When a disk is removed, its volumes die (`EndpointLifetimes.die`): requests fail, files become invalid through their
pages, windows are emptied, servers end.  When one is plugged in, a kernel thread mounts it.
"""

from __future__ import annotations

from dataclasses import field

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.common.record import record
from callgate.kernel.servers.mounting import Report
from callgate.kernel.servers.volumes import Volumes
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.changed_blocks import ChangedBlocks
from callgate.kernel.storage.disks import Disks, place_of
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE


@record
class DiskChangesState:
    """Records: names of places, mounts under way."""

    names: dict[int, str] = field(default_factory=dict)  # place -> d0, d1, …
    mounting: set[int] = field(default_factory=set)  # places whose partition table is being read
    ready: bool = False  # disks present at boot are being mounted


class DiskChanges:
    """Answers to DISK_CHANGED."""

    def __init__(
        self,
        state: DiskChangesState,
        disks: Disks,
        cache: Cache,
        changed_blocks: ChangedBlocks,
        volumes: Volumes,
    ) -> None:
        self.state = state
        self.disks = disks
        self.cache = cache
        self.changed_blocks = changed_blocks
        self.volumes = volumes
        self.servers = volumes.servers
        self.mounting = volumes.mounting
        self.log = volumes.log

    def name(self, place: int) -> str:
        """Return the name of a place of disks: d0, d1, … in the order in which they were first used."""
        names = self.state.names
        if place not in names:
            names[place] = f"d{len(names)}"
        return names[place]

    # Coming and going.

    def host_disk_changed(self, place: int) -> None:
        """DISK_CHANGED: a disk has been plugged in at a place, or removed from it."""
        present = place in self.disks.present()
        key = self.disks.key(place)
        for endpoint in list(self.servers.endpoints.by_number.values()):
            ours = endpoint.disk >= 0 and place_of(endpoint.disk) == place
            if ours and not endpoint.dead and not (present and endpoint.disk == key):
                endpoint.reason = "the disk was removed"
                self.log.urgent(f"/{endpoint.name}: gone, the disk was removed")
                self.servers.lifetimes.die(endpoint, ErrorCode.UNPLUGGED)
                if endpoint.process is not None:
                    self.servers.processes.kill(endpoint.process, KILLED_EXIT_CODE, endpoint.reason)
        for disk in {block_disk for block_disk, _ in self.cache.state.blocks}:
            if place_of(disk) == place and not (present and disk == key):
                self.cache.drop_disk(disk)
                lost = self.changed_blocks.lose(disk)
                if lost:
                    text = f"{self.name(place)}: {lost} changed blocks of 4096 bytes were lost with the disk"
                    self.log.urgent(text)
        if present:
            self._mount(place)
        else:
            self.log(f"{self.name(place)}: removed")

    def _mount(self, place: int) -> None:
        """Have a kernel thread mount the disk in a place, unless one is about to."""
        state = self.state
        if not state.ready or place in state.mounting:
            return  # the thread that mounts checks again at its end
        if self.mounting.start(Report(place, 0, self.name(place)), self._mount_job):
            state.mounting.add(place)

    async def _mount_job(self, report: Report) -> None:
        """Have the disk in a place mounted; check afterwards that it is still the same one."""
        done, place = -1, report.place
        while place in self.disks.present() and self.disks.key(place) != done:
            done = self.disks.key(place)
            await self.volumes.mount_disk(done, report)
        self.state.mounting.discard(place)

    def mount_present(self) -> None:
        """Mount the disks present at boot; from then on disks may be plugged in."""
        self.state.ready = True
        for place in self.disks.present():
            self._mount(place)
