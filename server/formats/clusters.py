"""Cluster chains, of FAT and of exFAT, as lists of runs, walked only as far as needed.

A chain comes from a disk that may be damaged: it may end early, leave the volume, enter free clusters or
form a loop.  Whatever happens, the clusters listed are distinct clusters of the volume, in order,
and `damage` says why there are no more.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, Protocol

from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.common.counted import Counted
from callgate.server.pieces import cut, sectors_of

_MAP_CLUSTERS: Final = 4096


class Link(Enum):
    """The meaning of a FAT entry."""

    NEXT = "the number of the next cluster"
    END = "end of chain"
    FREE = "free"
    BAD = "bad"
    INVALID = "neither a cluster nor a mark"


class Step(NamedTuple):
    """``length`` consecutive clusters, then an entry ``value`` that says ``link``."""

    length: int
    link: Link
    value: int


class ClusterNumbers(Protocol):
    """Which numbers are those of clusters."""

    @property
    def last_cluster(self) -> int:
        """The highest one."""
        ...

    def is_cluster(self, number: int) -> bool:
        """Whether a number is that of a cluster."""
        ...


class ClusterTable(Protocol):
    """A table of which cluster follows which."""

    @property
    def layout(self) -> ClusterNumbers:
        """The volume's clusters."""
        ...

    async def step(self, cluster: int) -> Step:
        """Follow the chain from a cluster as far as its clusters are consecutive."""
        ...


class Run(NamedTuple):
    """``length`` consecutive clusters from ``cluster``."""

    cluster: int
    length: int


class ClusterChain(Counted):
    """A chain from its first cluster; ``first`` 0 is the empty chain.

    Several threads may extend the same chain: what was learned in an await is used only if the chain is
    still where it was before.
    """

    def __init__(self, first: int) -> None:
        self.length = 0  # clusters known
        self.damage = ""
        self._next = first  # the next cluster to look at; 0 at the end
        # Runs in the order of the file: ordinal of their first cluster in the chain, and its number.
        self._ordinals = array("L")
        self._clusters = array("L")
        # Which clusters these are: bit maps of _MAP_CLUSTERS clusters, by number / _MAP_CLUSTERS.
        self._seen: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Whether the whole chain is known."""
        return self._next == 0

    async def extend(self, table: ClusterTable, clusters: int) -> None:
        """Walk on until ``clusters`` clusters are known or the chain ends."""
        if self.length == 0 and self._next and not table.layout.is_cluster(self._next):
            self._end(f"its first cluster is {self._next}, and the volume has 2 to {table.layout.last_cluster}")
        while self._next and self.length < clusters:
            at = self._next
            step = await table.step(at)
            if self._next == at:
                self._append(at, step)

    def run_at(self, ordinal: int) -> Run:
        """Return the rest of the run from the chain's cluster ``ordinal``, 0 to length - 1."""
        index = bisect_right(self._ordinals, ordinal) - 1
        start = self._ordinals[index]
        end = self._ordinals[index + 1] if index + 1 < len(self._ordinals) else self.length
        return Run(self._clusters[index] + ordinal - start, end - ordinal)

    def runs(self) -> list[Run]:
        """Return all runs known, in the order of the file."""
        ends = [*self._ordinals, self.length][1:]
        return [Run(c, e - s) for c, s, e in zip(self._clusters, self._ordinals, ends, strict=True)]

    def _append(self, cluster: int, step: Step) -> None:
        length = step.length
        last = cluster + length - 1
        if step.link in (Link.FREE, Link.BAD):
            # The last cluster is not part of a file, even if an entry names it: it may be reused, or unreadable.
            length -= 1
            self._end(f"cluster {last} is in its chain and is marked as {step.link.value}")
        elif step.link is Link.INVALID:
            self._end(f"cluster {last} is followed by {step.value}, which is not a cluster")
        elif step.link is Link.END:
            self._next = 0
        else:
            self._next = step.value
        self._add(cluster, self._claim(cluster, length))

    def _claim(self, cluster: int, length: int) -> int:
        """Mark a run as part of the chain, up to a cluster that already is: then the chain is a loop.

        Returns how many clusters of the run are new.
        """
        new = 0
        while new < length:
            index, offset = divmod(cluster + new, _MAP_CLUSTERS)
            count = min(length - new, _MAP_CLUSTERS - offset)
            known = self._seen.get(index, 0)
            again = (known >> offset) & ((1 << count) - 1)
            if again:
                count = (again & -again).bit_length() - 1
                self._end(f"its chain comes back to cluster {cluster + new + count}")
            self._seen[index] = known | ((1 << count) - 1) << offset
            new += count
            if again:
                break
        return new

    def _add(self, cluster: int, length: int) -> None:
        if length == 0:
            return
        if not self.length or self._clusters[-1] + self.length - self._ordinals[-1] != cluster:
            self._ordinals.append(self.length)
            self._clusters.append(cluster)
        self.length += length

    def _end(self, damage: str) -> None:
        self._next = 0
        self.damage = self.damage or damage


def cut_chain(
    chain: ClusterChain, per_cluster: int, sector_of: Callable[[int], int], first: int, end: int, start: int
) -> tuple[list[int], int]:
    """Return entries for the chain's sectors from ``first`` to ``end``, as many as fit, and how many sectors these are.

    ``sector_of`` gives a cluster's first sector in the partition, which begins at LBA ``start``.
    """
    entries: list[int] = []
    at = first
    while at < end and len(entries) < MESSAGE_ADDRESSES:
        ordinal, within = divmod(at, per_cluster)
        run = chain.run_at(ordinal)
        count = min(run.length * per_cluster - within, end - at)
        room = MESSAGE_ADDRESSES - len(entries)
        pieces = cut(start, sector_of(run.cluster) + within, count, room)
        entries.extend(pieces)
        if len(pieces) == room:
            return entries, at - first + sectors_of(pieces)
        at += count
    return entries, at - first
