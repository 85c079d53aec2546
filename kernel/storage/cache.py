"""The disk cache: 4 KiB blocks keyed by (disk's key, block), holding physical addresses, not mappings.

A block's frame lies above 4 GiB and is filled by DMA.  Blocks are locked while their address is in use (by a mapping,
or a reply on its way); unlocked blocks stay until memory is needed, least recently used first.  Consecutive missing
blocks become one disk request (kernel/storage/disk_requests.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.disks.disk import DISK_REQUEST_PAGES, DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTORS_PER_PAGE
from callgate.kernel.core.coroutines import RoutineCall, execute, routine
from callgate.kernel.core.errors import DiskError, GivenUp, PolicyError, Shortage
from callgate.kernel.memory.frames import FramePool, OutOfMemory
from callgate.kernel.storage.blocks import DONE
from callgate.kernel.storage.cache_records import CacheState, Locked, Notice
from callgate.kernel.storage.disk_requests import DiskRequests, Key, Run, runs
from callgate.kernel.tasks.scheduler import Scheduler

FEW = 64  # blocks of a request that reads again what one for more has failed to read
SPARE_LEAST = 3 * (SECTORS_PER_PAGE + 1)  # blocks for file data, with fewer of which nothing is read


class Cache:
    """Locking, reading and eviction."""

    def __init__(
        self,
        state: CacheState,
        high: FramePool,
        scheduler: Scheduler,
        requests: DiskRequests,
        reclaim: Callable[[Callable[[], bool]], bool],
        left_unread: Callable[[set[Key]], None],
    ) -> None:
        """Take the pool of the blocks' frames, and the manager that reads them.

        `reclaim(enough)` releases blocks that idle file data hold; False if there is none. `left_unread` is called for
        blocks that a thread may wait for and that no disk request will read.
        """
        self.state = state
        self.high = high
        self.scheduler = scheduler
        self.reclaim = reclaim
        self.left_unread = left_unread
        self.requests = requests

    def lock(self, disk: int, numbers: Sequence[int]) -> Locked:
        """Lock blocks of a disk, making those that are not cached; IO_ERROR, NO_MEMORY lock nothing."""
        state, blocks, uses = self.state, self.state.blocks, self.state.blocks.uses
        runs, frames, locks = blocks.runs, blocks.frames, uses.locks
        if blocks.none_of(disk, numbers) and len(set(numbers)) == len(numbers):
            return self._lock_new(disk, numbers)
        taken: list[int] = []
        found: list[int] = []
        to_read: list[int] = []
        there: list[int] = []
        try:
            for index, number in enumerate(numbers):
                key = disk, number
                place = blocks.find(key)
                run = None if place is None else runs[place]
                status = None if run is None else run.status
                if place is not None and not locks[place] and status is not None and status is not DONE:
                    self.evict(key)  # it could not be read
                    place = status = None
                if place is None:
                    place = blocks.add(key, self.new_frame())
                    state.misses += 1
                    to_read.append(number)
                else:
                    state.hits += 1
                if not locks[place]:
                    state.locked += 1
                    uses.retain(place)
                locks[place] += 1
                taken.append(number)
                found.append(frames[place])
                if status is not None:
                    there.append(index)
        except PolicyError:
            self.unlock([(disk, number) for number in taken])
            for number in to_read:
                self.evict((disk, number))  # no request is going to read it
            raise
        return Locked(disk, taken, found, to_read, there)

    def _lock_new(self, disk: int, numbers: Sequence[int]) -> Locked:
        """Make and lock blocks none of which is cached, as most of a file's are, in frames side by side; NO_MEMORY."""
        state = self.state
        while self.high.available < len(numbers):
            self._evict_one()
        frames = self.high.allocate_ascending(len(numbers))
        state.blocks.add_locked(disk, numbers, frames)
        state.misses += len(numbers)
        state.locked += len(numbers)
        return Locked(disk, numbers, frames, numbers, [])

    def fitting(self, disk: int, numbers: Sequence[int]) -> int:
        """Return how many of these blocks, from the first on, file data may lock, releasing idle data for them.

        A quarter of the cache is left for the structures of file systems.  Unlocked blocks are not read in when two
        spans would not find room: a thread that needs both at once would wait for ever.
        """
        places, locks = self.state.blocks.places.get(disk, {}), self.state.blocks.uses.locks
        while not self.has_room(len(numbers)):
            room = self._room
            fresh: set[int] = set()
            fits = 0
            for number in numbers:
                place = places.get(number)
                if place is None or not locks[place]:
                    fresh.add(number)
                fits += len(fresh) <= room
            if len(fresh) <= room or self.spare < SPARE_LEAST:
                return fits
            if not self.reclaim(partial(self.has_room, len(fresh))):
                return fits
        return len(numbers)

    def has_room(self, count: int) -> bool:
        """Whether file data may lock this many more blocks."""
        return self._room >= count

    @property
    def _room(self) -> int:
        """How many more blocks file data may lock."""
        return self.high.available + self.unlocked - self.share if self.spare >= SPARE_LEAST else 0

    @property
    def share(self) -> int:
        """How many blocks are reserved for metadata: a quarter."""
        return self.high.total // 4

    @property
    def spare(self) -> int:
        """How many blocks are available to file data: all but the share for metadata and the changed ones."""
        return self.high.total - self.share - self.state.changed

    @property
    def most(self) -> int:
        """Most blocks of one request for file data: two such requests fit in the worst layout (eight blocks a page)."""
        return max(SPARE_LEAST, self.spare) // 3

    def unlock(self, keys: list[Key]) -> None:
        """Drop one lock of each block."""
        state, blocks, uses = self.state, self.state.blocks, self.state.blocks.uses
        places, runs, doomed, locks = blocks.places, blocks.runs, blocks.doomed, uses.locks
        idle: list[int] = []
        for key in keys:
            place = places[key[0]][key[1]]
            locks[place] = left = locks[place] - 1
            if not left:
                state.locked -= 1
                run = runs[place]
                if run is not None and run.status is DONE and not doomed[place]:
                    idle.append(place)  # as nearly always
                else:
                    uses.release(idle)
                    idle.clear()
                    self._rest(key)
        uses.release(idle)

    @property
    def unlocked(self) -> int:
        """Number of blocks that could be evicted."""
        return len(self.state.blocks) - self.state.locked

    def check(self, locked: Locked) -> None:
        """Raise IO_ERROR or UNPLUGGED if a block could not be read."""
        for failed in map(self.failed, locked.keys):
            if failed is not None:
                raise failed

    def failed(self, key: Key) -> DiskError | None:
        """Return why a block could not be read, None if it was or is on its way."""
        status = self.state.blocks.failed(key)
        if status is None:
            return None
        code = ErrorCode.UNPLUGGED if status is DiskStatus.REMOVED else ErrorCode.IO_ERROR
        return DiskError(code, f"disk {key[0]}, sector {key[1] * SECTORS_PER_PAGE}: cannot be read")

    def failures(self, keys: list[Key]) -> list[Key]:
        """Return those of `keys` that could not be read."""
        return [key for key in keys if self.state.blocks.failed(key) is not None]

    def frame(self, key: Key) -> int:
        """Return the physical address of a cached block."""
        return self.state.blocks[key].frame

    def notify(self, missing: list[Key], selector: int) -> None:
        """Wake a thread when all of `missing` have arrived."""
        state = self.state
        number, keys = state.next_notice, list(dict.fromkeys(missing))
        state.next_notice += 1
        state.notices[number] = Notice(selector, len(keys))
        for key in keys:
            block = state.blocks[key]
            block.waiters += (number,)
            if block.run is not None:
                block.run.watched = True

    async def read(self, disk: int, numbers: Sequence[int], frames: Sequence[int] | None = None) -> RoutineCall | None:
        """Start reading blocks that `lock` made, in ascending order; their notices tell when they have arrived.

        `frames` are theirs, if the caller knows them.
        Return the routine that starts the last of them, if there is one: the caller awaits it or ends with it.
        """
        if frames is None:
            frames = self.state.blocks.frames_of(disk, numbers)
        submit: RoutineCall | None = None
        pieces = self._pieces(disk, numbers, frames)
        for index, (run, places) in enumerate(pieces):
            if self._extend(run, places):
                continue
            if submit is not None:
                await execute(submit)
            self._belong(run, run)
            try:
                submit = await self.requests.read(run, places)
            except PolicyError:
                self._left_unread([left for left, _ in pieces[index:]])
                raise
        return submit

    def _pieces(self, disk: int, numbers: Sequence[int], frames: Sequence[int]) -> list[tuple[Run, Sequence[int]]]:
        """Cut blocks into runs for one disk request each; those that have failed together are read in smaller ones."""
        alone = self.state.alone
        if not alone:
            return runs(disk, numbers, frames)
        found: list[tuple[Run, Sequence[int]]] = []
        places = dict(zip(numbers, frames, strict=True))
        for most in (DISK_REQUEST_PAGES, FEW, 1):
            some = [number for number in numbers if alone.get((disk, number), DISK_REQUEST_PAGES) == most]
            found += runs(disk, some, [places[number] for number in some], most)
        return found

    def _left_unread(self, left: list[Run]) -> None:
        """A thread that was to read blocks does not: it has been killed, or has no memory.

        Other threads may wait for them too. They find them failed as after a request that failed because of another
        block: reading each again is worthwhile. No disk request ends, so its end is accounted for here.
        """
        for run in left:
            self._belong(run, run)
            self.ended(run, DiskStatus.FAILED)
            self.state.read_alone(run.keys, 1)
        self.left_unread({key for run in left for key in run.keys})

    async def read_locked(self, disk: int, numbers: list[int]) -> Locked:
        """Lock blocks and wait until all of them have arrived; IO_ERROR, UNPLUGGED or NO_MEMORY otherwise."""
        while True:
            locked = self.lock(disk, numbers)
            thread = self.scheduler.current
            missing = locked.missing
            try:
                if missing:
                    self.notify(missing, thread.selector)
                    submit = await self.read(disk, locked.to_read)
                    if submit is not None:
                        await execute(submit)
                    while any(self.pending(key) for key in missing):
                        if thread.killed:
                            raise GivenUp(ErrorCode.KILLED)
                        await routine("block", eax=WaitReason.DISK)
                self.check(locked)
            except PolicyError as error:
                self.unlock(locked.keys)  # a block that the disk is about to write into stays until it has
                given_up = thread.killed or isinstance(error, GivenUp)
                if given_up or not missing or self.state.alone.keys().isdisjoint(locked.keys):
                    raise
            else:
                return locked

    def pending(self, key: Key) -> bool:
        """Whether a block is still on its way."""
        block = self.state.blocks[key]
        return not block.valid and block.failed is None

    def _extend(self, piece: Run, frames: Sequence[int]) -> bool:
        """Have the disk's last request read these blocks too, if it still waits and is for those just before them."""
        disk, first = piece.disk, piece.first
        if not self.state.alone.keys().isdisjoint([(disk, first - 1), (disk, first)]):
            return False
        run = self.requests.extend(disk, first, frames)
        if run is None:
            return False
        self._belong(piece, run)
        return True

    def _belong(self, piece: Run, run: Run) -> None:
        """Note the run by which the blocks of a piece of it are read."""
        if self.state.blocks.read_by(piece, run):
            run.watched = True

    def ended(self, run: Run, status: DiskStatus) -> None:
        """Blocks have been read, or will not be; wake the threads that wait for the last of them.

        That file data have arrived is counted by machine code (asm/kernel/disk/arrivals.asm): the blocks are examined
        here only if a thread waits for them by a notice, or they could not be read. One bad sector fails a request for
        many blocks: repeated requests show which it is, for `FEW` blocks at first and then for each of those that fail.
        """
        run.status = status
        alone = self.state.alone
        if status is not DiskStatus.DONE:
            self.state.failing = True
        if status is DiskStatus.FAILED and run.count > 1:
            self.state.read_alone(run.keys, FEW if run.count > FEW else 1)
        elif alone:
            for key in run.keys:
                alone.pop(key, None)
        if status is DiskStatus.DONE and not run.watched:
            return
        for key in run.keys:
            block = self.state.blocks[key]
            block.doomed |= status is DiskStatus.REMOVED
            waiters, block.waiters = block.waiters, ()
            for number in waiters:
                self._arrived(number)
            self._rest(key)

    def drop_disk(self, disk: int) -> None:
        """Free every block of a removed disk that is not held; the others are freed with their last lock."""
        self.state.ahead.pop(disk, None)
        self.state.alone = {key: most for key, most in self.state.alone.items() if key[0] != disk}
        for key, block in self.state.blocks.items():
            if key[0] == disk:
                block.doomed = True
                self._rest(key)

    def _rest(self, key: Key) -> None:
        """A block may be evicted now, unless it is held or the disk is about to write into it.

        One whose disk is gone is evicted at once.
        """
        block = self.state.blocks[key]
        if block.locks:
            return
        if not block.valid and block.failed is None:
            if block.run is not None:
                block.run.watched = True  # checked again when that ends
        elif block.doomed:
            self.evict(key)
        else:
            self.state.blocks.uses.release([block.place])

    def _arrived(self, number: int) -> None:
        notice = self.state.notices[number]
        notice.left -= 1
        if not notice.left:
            del self.state.notices[number]
            self.scheduler.host_wake(notice.selector)

    def new_frame(self) -> int:
        """Return a frame for a block, evicting another one if need be; NO_MEMORY."""
        try:
            return self.high.allocate()
        except OutOfMemory:
            self._evict_one()
            return self.high.allocate()

    def _evict_one(self) -> None:
        """Make room: the least recently used block that is not held, if need be one that file data release."""
        blocks = self.state.blocks
        while not blocks.uses.idle:
            if not self.reclaim(at_once):
                raise Shortage(ErrorCode.NO_MEMORY, "every block of the disk cache is in use")
        self.evict(blocks.oldest())
        self.state.evictions += 1

    def evict(self, key: Key) -> None:
        """Free a block that is not held."""
        self.high.release(self.state.blocks.remove(key))


def at_once() -> bool:
    """Whether one released block is enough."""
    return True
