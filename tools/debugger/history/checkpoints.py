"""Checkpoints: states of one run to go back to, as many as a budget of memory allows.

They lie densely near the present and thinly further back, by the CPU time that it takes to run from one to the next: an
instruction of a loop and one that calls policy differ by a factor of a hundred.  The memory of a checkpoint is what
changed since the one before (`PageVersions`); the rest of it is up to a hundred kilobytes and what hosted servers keep,
of which only what was touched since the one before is its own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import partial
from typing import Final, NamedTuple

from callgate.kernel.machine.memory.page_versions import PageVersions
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.machine.snapshot import Version
from callgate.tools.debugger.target.target import Kept, Target

NEAR: Final = 8  # of the newest checkpoints are never dropped
RELIEF: Final = 64  # a full budget is relieved by a 64th at once, which takes some milliseconds
EVEN: Final = 5.0  # seconds of CPU time before the present within which they lie as densely as at it
BESIDE: Final = 4096  # bytes, about: what a machine's snapshot holds of devices and counters
LEAST: Final = 8 << 20
"""The smallest budget, in bytes."""


class Moment(NamedTuple):
    """A state of a run: a position, and how many things from outside had happened by then."""

    position: Position
    outside: int = 0


class Checkpoint(NamedTuple):
    """A state that can be restored."""

    moment: Moment
    snapshot: Kept
    size: int  # bytes beside the pages and the kernel's part
    effort: float  # seconds of CPU time from the first one to this one


class Checkpoints:
    """The checkpoints of one target, in the order of the run."""

    def __init__(self, target: Target, first: Moment, budget: int) -> None:
        """Take the first one; NotQuiescent if there is something under way.

        `budget` is in bytes, and at least LEAST; the first checkpoint holds all of memory and is never dropped.
        """
        if budget < LEAST:
            raise ValueError(f"a history needs at least {LEAST >> 20} MiB, and {budget} bytes were given")
        self.target = target
        self.budget = budget
        target.machine.serial.flush()
        self.versions = PageVersions(target.machine.ram, first)
        self.kept: list[Checkpoint] = []
        self.size = 0  # bytes beside the pages and the kernel's part
        self._add(0, first, 0.0)

    def take(self, moment: Moment, spent: float = 0.0) -> Checkpoint:
        """Keep the present state, which is that of `moment`; NotQuiescent if something is under way.

        `spent` is the CPU time of the run since the checkpoint before, in seconds.  ValueError if the moment has been
        kept, or does not come after the one that was taken or restored last.  If it fails there is no checkpoint.
        """
        if self.versions.has(moment):
            raise ValueError(f"{moment} has been kept")
        effort, index = self.before(moment).effort + spent, self._index(moment)
        if index < len(self.kept):
            effort = min(effort, self.kept[index].effort)
        checkpoint = self._add(index, moment, effort)
        most = self.size + self.target.most_kept_bytes + self.versions.stored
        if most > self.budget and self.stored > self.budget:
            self._thin()
        return checkpoint

    def _add(self, index: int, moment: Moment, effort: float) -> Checkpoint:
        """Take one, for a place among the others.  Pages come last: they displace all else from the CPU's caches."""
        snapshot = self.target.snapshot(partial(Version, self.versions, moment))
        checkpoint = Checkpoint(moment, snapshot, len(snapshot.machine.cpu) + BESIDE, effort)
        try:
            self.kept.insert(index, checkpoint)
            self.size += checkpoint.size
            if not self.versions.has(moment):
                self.versions.keep(moment)
        except BaseException:
            if not self.versions.has(moment):
                self.kept[:] = [each for each in self.kept if each is not checkpoint]
                self.size = sum(each.size for each in self.kept)
            raise
        return checkpoint

    @property
    def stored(self) -> int:
        """Bytes that all checkpoints take."""
        return self.size + self.target.kept_bytes + self.versions.stored

    def _index(self, moment: Moment) -> int:
        kept = self.kept
        if kept and kept[-1].moment <= moment:
            return len(kept)  # as nearly always
        return bisect_right(kept, moment, key=lambda checkpoint: checkpoint.moment)

    def before(self, moment: Moment) -> Checkpoint:
        """Return the last one at a moment or before it; ValueError if the run began later."""
        index = self._index(moment)
        if not index:
            raise ValueError(f"the history begins at {self.kept[0].moment.position}")
        return self.kept[index - 1]

    def count_before(self, moment: Moment) -> int:
        """Return how many there are at a moment or before it."""
        return self._index(moment)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Make the target what it was."""
        self.target.restore(checkpoint.snapshot)

    def forget_after(self, moment: Moment) -> None:
        """Drop the checkpoints after a moment, at which the system is: the run goes on in another way."""
        while self.kept[-1].moment > moment:
            self._drop(len(self.kept) - 1)

    def _drop(self, index: int) -> None:
        checkpoint = self.kept.pop(index)
        self.size -= checkpoint.size
        self.versions.drop(checkpoint.moment)

    def _thin(self) -> None:
        """Drop checkpoints where the distance that results is smallest, compared with how far back it lies."""
        present = self.kept[-1].effort
        prices = [self._price(present, index) for index in range(len(self.kept))]
        while self.stored > self.budget - self.budget // RELIEF:
            least = min(prices)
            if least == math.inf:
                return
            index = prices.index(least)
            self._drop(index)
            del prices[index]
            for near in (index - 1, index):
                prices[near] = self._price(present, near)

    def _price(self, present: float, index: int) -> float:
        """Return what dropping a checkpoint costs; infinity for one that is to stay."""
        if not 0 < index < len(self.kept) - NEAR or self.versions.in_use(self.kept[index].moment):
            return math.inf
        before, at, after = (self.kept[index + step].effort for step in (-1, 0, 1))
        return (after - before) / (present - at + EVEN)
