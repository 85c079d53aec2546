"""What policy knows: the root of all records, pickled whole into a snapshot.

Managers (`scheduler`, `processes`, `ipc`, …) hold the logic and are given their records by `Kernel.adopt`.
"""

from dataclasses import dataclass, field

from callgate.kernel.abi.selectors import GDT_FIRST_LDT
from callgate.kernel.address_space import KernelSpace
from callgate.kernel.cache import CacheState
from callgate.kernel.directories import DirectoriesState
from callgate.kernel.file_ageing import AgeingState
from callgate.kernel.files import FilesState
from callgate.kernel.fills import FillsState
from callgate.kernel.frames import FramePool
from callgate.kernel.give_backs import GiveBacksState
from callgate.kernel.log import LogState
from callgate.kernel.mounting import MountingState
from callgate.kernel.plugging import PluggingState
from callgate.kernel.records import PartitionState, Process, Thread
from callgate.kernel.scheduler import SchedulerState
from callgate.kernel.sector_lists import SectorListsState
from callgate.server.hosted import HostedServer


@dataclass(slots=True)
class KernelState:
    """The root of everything that policy knows."""

    scheduler: SchedulerState = field(default_factory=SchedulerState)
    threads: dict[int, Thread] = field(default_factory=dict)  # by selector
    processes: dict[int, Process] = field(default_factory=dict)
    partitions: dict[int, PartitionState] = field(default_factory=dict)
    dead_threads: list[Thread] = field(default_factory=list)  # switched away from for good
    finished: list[int] = field(default_factory=list)  # processes without threads, not waited for yet
    shell: int = -1  # process number
    zero_frame: int = 0  # physical address, 0 = not needed yet
    next_thread: int = 1
    next_thread_slot: int = 0
    next_process: int = 0
    next_ldt_slot: int = GDT_FIRST_LDT
    free_thread_slots: list[int] = field(default_factory=list)
    free_ldt_slots: list[int] = field(default_factory=list)
    stack_frames: dict[int, list[int]] = field(default_factory=dict)  # by thread slot, kept for ever
    space: KernelSpace = field(default_factory=lambda: KernelSpace(0))
    low: FramePool = field(default_factory=lambda: FramePool(0, 0))
    high: FramePool = field(default_factory=lambda: FramePool(0, 0))
    cache: CacheState = field(default_factory=CacheState)
    files: FilesState = field(default_factory=FilesState)
    fills: FillsState = field(default_factory=FillsState)
    sector_lists: SectorListsState = field(default_factory=SectorListsState)
    file_ageing: AgeingState = field(default_factory=AgeingState)
    directories: DirectoriesState = field(default_factory=DirectoriesState)
    give_backs: GiveBacksState = field(default_factory=GiveBacksState)
    mounting: MountingState = field(default_factory=MountingState)
    plugging: PluggingState = field(default_factory=PluggingState)
    log: LogState = field(default_factory=LogState)
    hosted: dict[int, HostedServer] = field(default_factory=dict)  # by process number; no plain data
