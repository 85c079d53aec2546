"""The blocks of the disk cache, as columns: arrays in which each block has a place.

There may be many thousands, and a snapshot copies an array in the time in which it looks at a few objects.  Which
blocks there are and what they hold changes with what is read and written, and `Blocks.changes` counts it; what changes
whenever a block is used has columns of its own (`Uses`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.common.record import record
from callgate.kernel.storage.disk_requests import Key, Run

if TYPE_CHECKING:
    Numbers = array[int]
else:
    Numbers = array

BYTES, COUNTS, LARGE = "B", "I", "Q"  # of an array: what an element takes
ENDS: Final = 0  # the place without a block: both ends of the list of those that may be evicted
DONE: Final = DiskStatus.DONE


def column(kind: str) -> Numbers:
    """Return a field of a record that holds a column without blocks."""
    made: Numbers = field(default_factory=lambda: array(kind, [0]))
    return made


@record
class Uses:
    """How the blocks are used, by place: their locks, and which of them may be evicted, in a list that is linked."""

    locks: Numbers = column(COUNTS)
    older: Numbers = column(COUNTS)  # the place of the one that has been used before it; its own: it is not on the list
    newer: Numbers = column(COUNTS)  # likewise, used after it
    idle: int = 0  # how many are on the list

    def append(self, count: int, locks: int) -> None:
        """Make places."""
        places = range(len(self.locks), len(self.locks) + count)
        self.locks.extend([locks] * count)
        self.older.extend(places)
        self.newer.extend(places)

    def retain(self, place: int) -> None:
        """Note that a block may not be evicted."""
        newer = self.newer
        after = newer[place]
        if after != place:
            older = self.older
            newer[older[place]], older[after] = after, older[place]
            newer[place] = older[place] = place
            self.idle -= 1

    def release(self, places: Iterable[int]) -> None:
        """Note that blocks may be evicted, in this order after all those that may be already."""
        older, newer = self.older, self.newer
        last, count = older[ENDS], 0
        for place in places:
            if newer[place] == place:
                newer[last], older[place], newer[place] = place, last, ENDS
                last = place
                count += 1
        older[ENDS] = last
        self.idle += count

    def in_order(self) -> Iterator[int]:
        """Yield the places of those that may be evicted, least recently used first."""
        newer = self.newer
        place = newer[ENDS]
        while place != ENDS:
            yield place
            place = newer[place]


@record
class Blocks:
    """Blocks by key, with a column for each thing that is known of one; the first place has none.

    What reads them may go through the columns; whatever changes one, but for those of `uses`, counts that in `changes`
    first, by which a snapshot knows that there is something to copy.
    """

    uses: Uses = field(default_factory=Uses)
    changes: int = 0
    places: dict[Key, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)  # places without a block
    names: list[Key | None] = field(default_factory=lambda: [None])  # the key of the block in a place
    frames: Numbers = column(LARGE)
    runs: list[Run | None] = field(default_factory=lambda: [None])  # what reads it, or has read it; None: none yet
    changed: Numbers = column(BYTES)  # whether it differs from the disk; then it has a lock on that account
    families: Numbers = column(COUNTS)  # that has changed it first
    writers: Numbers = column(COUNTS)  # claims: windows that show it to be written, and may change it unnoticed
    doomed: Numbers = column(BYTES)  # whether its disk is gone: it is freed as soon as no lock holds it
    waiters: dict[int, tuple[int, ...]] = field(default_factory=dict)  # numbers of Notices, where there are any

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, key: object) -> bool:
        return key in self.places

    def __iter__(self) -> Iterator[Key]:
        return iter(self.places)

    def __getitem__(self, key: Key) -> Block:
        return Block(self, self.places[key])

    def items(self) -> Iterable[tuple[Key, Block]]:
        """Return the keys with their blocks, in the order in which they were made."""
        return [(key, Block(self, place)) for key, place in self.places.items()]

    def values(self) -> Iterable[Block]:
        """Return the blocks."""
        return [Block(self, place) for place in self.places.values()]

    def failed(self, key: Key) -> DiskStatus | None:
        """Return why a block's content is not available; None if it has arrived or is on its way."""
        run = self.runs[self.places[key]]
        return None if run is None or run.status is DONE else run.status

    def oldest(self) -> Key:
        """Return the key of the one that is evicted next; IndexError if there is none."""
        key = self.names[self.uses.newer[ENDS]]
        if key is None:
            raise IndexError("no block may be evicted")
        return key

    def idle(self) -> list[Key]:
        """Return the keys of those that may be evicted, least recently used first."""
        return [key for key in map(self.names.__getitem__, self.uses.in_order()) if key is not None]

    def add(self, key: Key, frame: int) -> int:
        """Make a block; return its place."""
        if not self.free:
            self._append([key], [frame], 0)
            return len(self.frames) - 1
        self.changes += 1
        place = self.places[key] = self.free.pop()
        self.names[place] = key
        self.frames[place] = frame
        return place

    def add_locked(self, keys: Sequence[Key], frames: Sequence[int]) -> None:
        """Make blocks, each with a lock."""
        known = min(len(self.free), len(keys))
        locks = self.uses.locks
        for key, frame in zip(keys[:known], frames, strict=False):
            locks[self.add(key, frame)] = 1
        self._append(keys[known:], frames[known:], 1)

    def _append(self, keys: Sequence[Key], frames: Sequence[int], locks: int) -> None:
        self.changes += 1
        first, count = len(self.frames), len(keys)
        self.places.update(zip(keys, range(first, first + count), strict=True))
        self.names.extend(keys)
        self.runs.extend([None] * count)
        self.frames.extend(frames)
        for each in (self.changed, self.families, self.writers, self.doomed):
            each.frombytes(bytes(count * each.itemsize))
        self.uses.append(count, locks)

    def remove(self, key: Key) -> int:
        """Forget a block without locks; return its frame."""
        self.changes += 1
        place = self.places.pop(key)
        self.free.append(place)
        self.uses.retain(place)
        self.names[place] = self.runs[place] = None
        for each in (self.changed, self.families, self.writers, self.doomed):
            each[place] = 0
        self.waiters.pop(place, None)
        return self.frames[place]

    def read_by(self, keys: Iterable[Key], run: Run) -> bool:
        """Note the run that reads blocks; return whether something is to be done for one of them when it ends."""
        self.changes += 1
        places, runs, locks, waiters = self.places, self.runs, self.uses.locks, self.waiters
        watched = False
        for key in keys:
            place = places[key]
            runs[place] = run
            watched |= not locks[place] or place in waiters
        return watched


class Block:
    """One block of the cache, for what looks at few of them."""

    __slots__ = ("blocks", "place")

    def __init__(self, blocks: Blocks, place: int) -> None:
        self.blocks = blocks
        self.place = place

    @property
    def frame(self) -> int:
        """Its physical address."""
        return self.blocks.frames[self.place]

    @property
    def run(self) -> Run | None:
        """The disk request that reads it, or has read it; None: it has not been requested yet."""
        return self.blocks.runs[self.place]

    @property
    def valid(self) -> bool:
        """Whether the content has arrived."""
        return self.run is not None and self.run.status is DONE

    @property
    def failed(self) -> DiskStatus | None:
        """Why the content is not available; None if it has arrived or is on its way."""
        return None if self.run is None or self.run.status is DONE else self.run.status

    @property
    def locks(self) -> int:
        """How many locks hold it."""
        return self.blocks.uses.locks[self.place]

    @property
    def waiters(self) -> tuple[int, ...]:
        """Numbers of the Notices of threads that wait for its content."""
        return self.blocks.waiters.get(self.place, ())

    @waiters.setter
    def waiters(self, numbers: tuple[int, ...]) -> None:
        self.blocks.changes += 1
        if numbers:
            self.blocks.waiters[self.place] = numbers
        else:
            self.blocks.waiters.pop(self.place, None)

    @property
    def changed(self) -> bool:
        """Whether it differs from the disk."""
        return bool(self.blocks.changed[self.place])

    @changed.setter
    def changed(self, changed: bool) -> None:
        self.blocks.changes += 1
        self.blocks.changed[self.place] = changed

    @property
    def family(self) -> int:
        """The family that has changed it first; 0 if none has."""
        return self.blocks.families[self.place]

    @family.setter
    def family(self, family: int) -> None:
        self.blocks.changes += 1
        self.blocks.families[self.place] = family

    @property
    def writers(self) -> int:
        """Claims on it."""
        return self.blocks.writers[self.place]

    @writers.setter
    def writers(self, claims: int) -> None:
        self.blocks.changes += 1
        self.blocks.writers[self.place] = claims

    @property
    def doomed(self) -> bool:
        """Whether its disk is gone."""
        return bool(self.blocks.doomed[self.place])

    @doomed.setter
    def doomed(self, doomed: bool) -> None:
        self.blocks.changes += 1
        self.blocks.doomed[self.place] = doomed
