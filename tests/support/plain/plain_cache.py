"""A cache alone, for unit tests: the disk's requests and the threads that are woken are lists."""

from collections.abc import Callable
from types import SimpleNamespace

from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.cache_records import CacheState
from callgate.kernel.storage.disk_requests import Run
from plain_guest import drive

DISK, OTHER = 0x100, 0x101


class CacheRig:
    """A cache of `blocks` blocks; the disk's requests and the threads that are woken are lists."""

    def __init__(self, blocks: int = 8) -> None:
        self.state = CacheState()
        self.high = FramePool(HIGH_MEMORY, HIGH_MEMORY + blocks * 4096)
        self.runs: list[Run] = []
        self.woken: list[int] = []
        self.unread: list[set[tuple[int, int]]] = []
        self.idle_data: list[Callable[[], None]] = []  # the blocks that reclaim releases, one a call
        self.refused: PolicyError | None = None  # by the disk's requests
        self.busy = False  # requests wait for the disk
        self.thread = SimpleNamespace(selector=0x208, killed=False)
        scheduler = SimpleNamespace(current=self.thread, host_wake=self.woken.append)
        self.cache = Cache(self.state, self.high, scheduler, self, self.reclaim, self.unread.append)

    def extend(self, disk: int, first: int, frames: list[int]) -> Run | None:
        """Stand in for `DiskRequests.extend`: the last request waits if `busy`."""
        run = self.runs[-1] if self.busy and self.runs else None
        if run is None or (run.disk, run.end) != (disk, first):
            return None
        assert frames == [self.cache.frame((disk, first + index)) for index in range(len(frames))]
        run.count += len(frames)
        return run

    async def read(self, run: Run, frames: list[int]) -> None:
        """Stand in for `DiskRequests.read`."""
        assert frames == [self.cache.frame(key) for key in run.keys]
        if self.refused is not None:
            raise self.refused
        self.runs.append(run)

    def reclaim(self, enough: Callable[[], bool]) -> bool:
        let_go = False
        while self.idle_data:
            self.idle_data.pop(0)()
            let_go = True
            if enough():
                break
        return let_go

    def span(self, numbers: list[int], disk: int = DISK, *, status: DiskStatus = DiskStatus.DONE) -> list[int]:
        """Have blocks read and unlocked; return their frames."""
        locked = self.cache.lock(disk, numbers)
        drive(self.cache.read(disk, locked.to_read))
        self.end(status)
        self.cache.unlock(locked.keys)
        return locked.frames

    def end(self, status: DiskStatus = DiskStatus.DONE) -> None:
        """End every disk request that is in progress."""
        while self.runs:
            self.cache.ended(self.runs.pop(0), status)

    @property
    def numbers(self) -> list[int]:
        return sorted(number for _, number in self.state.blocks)
