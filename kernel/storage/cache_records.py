"""The records of the disk cache."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.common.record import record
from callgate.kernel.storage.disk_requests import Key, Run


@dataclass(slots=True)
class Block:
    """One block: its frame, its locks, and whether its content has arrived."""

    frame: int
    locks: int = 0
    run: Run | None = None  # the disk request that reads it, or has read it; None: not requested yet
    changed: bool = False  # differs from the disk, and has a lock on that account
    family: int = 0  # that has changed it first
    writers: int = 0  # claims on it: windows that show it to be written, and may change it unnoticed
    doomed: bool = False  # its disk is gone: it is freed as soon as no lock holds it
    waiters: tuple[int, ...] = ()  # numbers of Notices

    @property
    def valid(self) -> bool:
        """Whether the content has arrived."""
        return self.run is not None and self.run.status is DiskStatus.DONE

    @property
    def failed(self) -> DiskStatus | None:
        """Why the content is not available; None if it has arrived or is on its way."""
        return None if self.run is None or self.run.status is DiskStatus.DONE else self.run.status


@record(eq=True)
class Notice:
    """Which thread is woken when `left` more blocks have arrived."""

    selector: int
    left: int


@record
class CacheState:
    """The cache's records."""

    blocks: dict[Key, Block] = field(default_factory=dict)
    idle: OrderedDict[Key, None] = field(default_factory=OrderedDict)  # evictable blocks, least recently used first
    notices: dict[int, Notice] = field(default_factory=dict)
    next_notice: int = 1
    alone: dict[Key, int] = field(default_factory=dict)  # failed in a request for several: most blocks of the next one
    failing: bool = False  # a disk request has failed, or its disk has gone: there may be blocks that were not read
    locked: int = 0  # blocks with locks
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    changed: int = 0  # blocks that differ from the disk
    claimed: int = 0  # claims on blocks that are mapped to be written and may be changed at any moment
    held: Counter[int] = field(default_factory=Counter)  # by family: blocks that it has changed, and its claims
    lost: int = 0  # changed blocks that went with their disk
    ahead: dict[int, tuple[int, int]] = field(default_factory=dict)  # of disks, for `read_ahead`
