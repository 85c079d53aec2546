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
from callgate.kernel.common.stretches import stretches
from callgate.kernel.storage.disk_requests import Key, Run

if TYPE_CHECKING:
    Numbers = array[int]
else:
    Numbers = array

BYTES, COUNTS, LARGE = "B", "I", "Q"  # of an array: what an element takes
ONE = array(COUNTS, [1])
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

    def append(self, count: int) -> None:
        """Make places."""
        places = range(len(self.locks), len(self.locks) + count)
        self.locks.frombytes(bytes(count * self.locks.itemsize))
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
    """Blocks by disk and number, with a column for each thing that is known of one; the first place has none.

    What reads them may go through the columns; whatever changes one, but for those of `uses`, counts that in `changes`
    first, by which a snapshot knows that there is something to copy.
    """

    uses: Uses = field(default_factory=Uses)
    changes: int = 0
    places: dict[int, dict[int, int]] = field(default_factory=dict)  # of the blocks of each disk that has some
    free: list[int] = field(default_factory=list)  # places without a block
    disks: Numbers = column(LARGE)
    numbers: Numbers = column(LARGE)
    frames: Numbers = column(LARGE)
    runs: list[Run | None] = field(default_factory=lambda: [None])  # what reads it, or has read it; None: none yet
    changed: Numbers = column(BYTES)  # whether it differs from the disk; then it has a lock on that account
    families: Numbers = column(COUNTS)  # that has changed it first
    writers: Numbers = column(COUNTS)  # claims: windows that show it to be written, and may change it unnoticed
    doomed: Numbers = column(BYTES)  # whether its disk is gone: it is freed as soon as no lock holds it
    waiters: dict[int, tuple[int, ...]] = field(default_factory=dict)  # numbers of Notices, where there are any

    def __len__(self) -> int:
        return len(self.frames) - 1 - len(self.free)

    def __contains__(self, key: Key) -> bool:
        return self.find(key) is not None

    def __iter__(self) -> Iterator[Key]:
        return ((disk, number) for disk, places in self.places.items() for number in places)

    def __getitem__(self, key: Key) -> Block:
        return Block(self, self.place(key))

    def find(self, key: Key) -> int | None:
        """Return the place of a block; None if there is no such block."""
        of_disk = self.places.get(key[0])
        return None if of_disk is None else of_disk.get(key[1])

    def place(self, key: Key) -> int:
        """Return the place of a block that there is."""
        return self.places[key[0]][key[1]]

    def places_of(self, disk: int, numbers: Iterable[int]) -> list[int]:
        """Return the places of blocks of a disk, all of which there are."""
        return list(map(self.places.get(disk, {}).__getitem__, numbers))

    def frames_of(self, disk: int, numbers: Iterable[int]) -> list[int]:
        """Return the frames of blocks of a disk, all of which there are."""
        return list(map(self.frames.__getitem__, self.places_of(disk, numbers)))

    def none_of(self, disk: int, numbers: Iterable[int]) -> bool:
        """Whether there is none of these blocks of a disk."""
        of_disk = self.places.get(disk)
        return of_disk is None or of_disk.keys().isdisjoint(numbers)

    def items(self) -> Iterable[tuple[Key, Block]]:
        """Return the keys with their blocks: disk by disk, those of one in the order in which they were made."""
        return [
            ((disk, number), Block(self, place))
            for disk, places in self.places.items()
            for number, place in places.items()
        ]

    def values(self) -> Iterable[Block]:
        """Return the blocks."""
        return [block for _, block in self.items()]

    def failed(self, key: Key) -> DiskStatus | None:
        """Return why a block's content is not available; None if it has arrived or is on its way."""
        run = self.runs[self.place(key)]
        return None if run is None or run.status is DONE else run.status

    def oldest(self) -> Key:
        """Return the key of the one that is evicted next; IndexError if there is none."""
        place = self.uses.newer[ENDS]
        if place == ENDS:
            raise IndexError("no block may be evicted")
        return self.disks[place], self.numbers[place]

    def idle(self) -> list[Key]:
        """Return the keys of those that may be evicted, least recently used first."""
        return [(self.disks[place], self.numbers[place]) for place in self.uses.in_order()]

    def add(self, key: Key, frame: int) -> int:
        """Make a block; return its place."""
        self.changes += 1
        disk, number = key
        if not self.free:
            self._append(1)
            self.free.append(len(self.frames) - 1)
        place = self.places.setdefault(disk, {})[number] = self.free.pop()
        self.disks[place], self.numbers[place], self.frames[place] = disk, number, frame
        return place

    def add_locked(self, disk: int, numbers: Sequence[int], frames: Sequence[int]) -> None:
        """Make blocks of a disk, each with a lock: none for a file of holes alone."""
        if not numbers:
            return
        self.changes += 1
        count = len(numbers)
        kept = max(0, len(self.free) - count)
        places = sorted(self.free[kept:])
        del self.free[kept:]
        fresh = count - len(places)
        if fresh:
            places += range(len(self.frames), len(self.frames) + fresh)
            self._append(fresh)
        for begin, end in stretches(places, 1):
            at = slice(places[begin], places[begin] + end - begin)
            self.disks[at] = array(LARGE, [disk]) * (end - begin)
            self.numbers[at] = array(LARGE, numbers[begin:end])
            self.frames[at] = array(LARGE, frames[begin:end])
            self.uses.locks[at] = ONE * (end - begin)
        self.places.setdefault(disk, {}).update(zip(numbers, places, strict=True))

    def _append(self, count: int) -> None:
        """Make places, which are not on the list of the free ones."""
        self.runs.extend([None] * count)
        for each in (self.disks, self.numbers, self.frames, self.changed, self.families, self.writers, self.doomed):
            each.frombytes(bytes(count * each.itemsize))
        self.uses.append(count)

    def remove(self, key: Key) -> int:
        """Forget a block without locks; return its frame."""
        self.changes += 1
        of_disk = self.places[key[0]]
        place = of_disk.pop(key[1])
        if not of_disk:
            del self.places[key[0]]
        self.free.append(place)
        self.uses.retain(place)
        self.runs[place] = None
        for each in (self.changed, self.families, self.writers, self.doomed):
            each[place] = 0
        self.waiters.pop(place, None)
        return self.frames[place]

    def read_by(self, piece: Run, run: Run) -> bool:
        """Note the run that reads the blocks of a piece of it.

        Return whether something is to be done for one of them when it ends.
        """
        self.changes += 1
        places = self.places_of(piece.disk, range(piece.first, piece.end))
        watched = not self.waiters.keys().isdisjoint(places)
        for begin, end in stretches(places, 1):
            at = slice(places[begin], places[begin] + end - begin)
            self.runs[at] = [run] * (end - begin)
            watched |= not all(self.uses.locks[at])
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
