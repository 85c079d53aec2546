"""The records of the disk cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field

from callgate.kernel.abi.limits import BLOCKS_ALONE
from callgate.kernel.common.record import record
from callgate.kernel.storage.blocks import Blocks
from callgate.kernel.storage.disk_requests import Key


@record(eq=True)
class Notice:
    """Which thread is woken when `left` more blocks have arrived."""

    selector: int
    left: int


@record
class CacheState:
    """The cache's records."""

    blocks: Blocks = field(default_factory=Blocks)
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

    def read_alone(self, keys: list[Key], most: int) -> None:
        """Note that the next request for one of these blocks is for `most` of them at most."""
        self.alone.update(dict.fromkeys(keys, most))
        while len(self.alone) > BLOCKS_ALONE:
            del self.alone[next(iter(self.alone))]  # it fails with others once more, and is tried again


@record(eq=True)
class Locked:
    """The outcome of locking blocks of a disk: numbers and frames in the order asked, and numbers of those to be read.

    `there` are the places in that order of those that are not on their way.  What follows each other is a `range`, if
    it is long.
    """

    disk: int
    numbers: Sequence[int]
    frames: Sequence[int]
    to_read: Sequence[int]
    there: list[int]

    @property
    def keys(self) -> list[Key]:
        """All of them."""
        return [(self.disk, number) for number in self.numbers]

    @property
    def missing(self) -> list[Key]:
        """Those that are still on their way."""
        there = set(self.there)
        return [(self.disk, number) for place, number in enumerate(self.numbers) if place not in there]
