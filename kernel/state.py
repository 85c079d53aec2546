"""The state of policy: the root of all records, which snapshots keep.

The records are made once, with the kernel, and each manager is handed its own; a restore overwrites their content.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from callgate.kernel.core.log import LogState
from callgate.kernel.core.records import Endpoints, Tasks
from callgate.kernel.file_data.ageing_timer import AgeingState
from callgate.kernel.file_data.objects import FilesState
from callgate.kernel.files.directories import DirectoriesState
from callgate.kernel.ipc.deferred_releases import DeferredReleasesState
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.page_tables import KernelSpace
from callgate.kernel.servers.disk_changes import DiskChangesState
from callgate.kernel.servers.mounting import MountingState
from callgate.kernel.storage.cache_records import CacheState
from callgate.kernel.storage.disk_requests import DiskRequestsState
from callgate.kernel.storage.disk_watch import DiskWatchState
from callgate.kernel.storage.sector_lists import SectorListsState
from callgate.kernel.tasks.scheduler import SchedulerState
from callgate.server.hosted import HostedServer


@dataclass(slots=True, eq=False, repr=False)
class KernelState:
    """The root of all records of policy."""

    scheduler: SchedulerState = field(default_factory=SchedulerState)
    tasks: Tasks = field(default_factory=Tasks)
    endpoints: Endpoints = field(default_factory=Endpoints)
    space: KernelSpace = field(default_factory=lambda: KernelSpace(0))
    low: FramePool = field(default_factory=lambda: FramePool(0, 0))
    high: FramePool = field(default_factory=lambda: FramePool(0, 0))
    disk_watch: DiskWatchState = field(default_factory=DiskWatchState)
    disk_requests: DiskRequestsState = field(default_factory=DiskRequestsState)
    cache: CacheState = field(default_factory=CacheState)
    files: FilesState = field(default_factory=FilesState)
    sector_lists: SectorListsState = field(default_factory=SectorListsState)
    file_ageing: AgeingState = field(default_factory=AgeingState)
    directories: DirectoriesState = field(default_factory=DirectoriesState)
    releases: DeferredReleasesState = field(default_factory=DeferredReleasesState)
    mounting: MountingState = field(default_factory=MountingState)
    disk_changes: DiskChangesState = field(default_factory=DiskChangesState)
    log: LogState = field(default_factory=LogState)
    hosted: dict[int, HostedServer] = field(default_factory=dict)  # by process number; not plain data
