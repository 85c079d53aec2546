"""Disk requests: the DiskRequests of all disks, their way to the driver and back (asm/kernel/disk/disk.asm).

A disk has a bounded number of them.  A thread that wants one more waits, first come first served: those whose data
come run before those who wait, and would take each request that becomes free.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import repeat

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.disks.disk import DISK_REQUEST_PAGES, DISK_REQUEST_RUNS, DiskRequest, DiskStatus
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.limits import REQUESTS_OF_DISK
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.common.record import record
from callgate.kernel.common.stretches import stretches
from callgate.kernel.common.table import Table
from callgate.kernel.core.coroutines import RoutineCall, routine
from callgate.kernel.core.errors import GivenUp
from callgate.kernel.core.guest import Guest
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.memory.frames import FramePool, OutOfMemory
from callgate.kernel.storage.disk_watch import DiskWatch
from callgate.kernel.storage.disks import Disks, place_of
from callgate.kernel.tasks.scheduler import Scheduler

Key = tuple[int, int]  # a disk's key, and the number of a 4 KiB block on it
REQUEST_SPAN = 512
RUNS = offset_of(DiskRequest, "runs")
ENTRY = 8  # bytes of a run of page frames
assert size_of(DiskRequest) <= REQUEST_SPAN
assert DISK_REQUEST_PAGES <= PAGE_SIZE  # bits 0 to 11 of a run hold its pages - 1


@record(eq=True)
class Run:
    """Consecutive blocks that one disk request reads, with its result for all of them."""

    disk: int  # its key
    first: int
    count: int
    status: DiskStatus | None = None  # None: on its way
    watched: bool = False  # a thread is to be woken, or a block to be freed, when it ends

    @property
    def end(self) -> int:
        """The block after the last one."""
        return self.first + self.count

    @property
    def keys(self) -> list[Key]:
        """Its blocks."""
        return list(zip(repeat(self.disk), range(self.first, self.end)))


@record
class DiskRequestsState:
    """Records: the requests by the linear address of the DiskRequest."""

    running: dict[int, Run] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    in_flight: Table[int, int] = field(default_factory=Table)  # disk -> its DiskRequests
    last: dict[int, int] = field(default_factory=dict)  # disk -> the DiskRequest that was filled last
    #: disk -> selectors of threads that wait for a free DiskRequest, in order of arrival
    waiting: dict[int, list[int]] = field(default_factory=dict)


class DiskRequests:
    """Reading runs of consecutive blocks."""

    def __init__(
        self,
        state: DiskRequestsState,
        guest: Guest,
        low: FramePool,
        disks: Disks,
        scheduler: Scheduler,
        watch: DiskWatch,
        ended: Callable[[Run, DiskStatus], None],
    ) -> None:
        """`ended` is called for each run that has been read, or will not be."""
        self.state = state
        self.guest = guest
        self.low = low
        self.disks = disks
        self.scheduler = scheduler
        self.watch = watch
        self.ended = ended

    async def read(self, run: Run, frames: Sequence[int]) -> RoutineCall | None:
        """Return the routine that has a run read into `frames`, one for each of its blocks.  The caller has it run.

        `ended` tells when the run has been read; None if it has told already, because the disk is gone.  Waits for a
        free DiskRequest.  KILLED, if the thread has been; NO_MEMORY, if there is none for the first ones.
        """
        disk = run.disk
        address = await self._take(disk)
        if not self.disks.there(disk):
            self.state.free.append(address)
            self._wake_first()
            self.ended(run, DiskStatus.REMOVED)
            return None
        self._fill(address, run, frames)
        return RoutineCall("disk_submit", ebx=address)

    def extend(self, disk: int, first: int, frames: Sequence[int]) -> Run | None:
        """Have the request that ends before block `first` read more blocks, into `frames`; return its run.

        One command does the work of two.  None if that is not the last request of the disk, or has no room, or the
        driver has taken it.  The request keeps its place in the disk's queue.  Threads that wait for its first blocks
        wait for a longer command, of `DISK_REQUEST_PAGES` at most, as if all had been asked for at once.
        """
        address = self.state.last.get(disk, 0)
        run = self.state.running.get(address)
        if run is None or (run.disk, run.end) != (disk, first) or not self.disks.there(disk):
            return None
        request, added = self._request(address), frame_runs(frames)
        if request.status != DiskStatus.QUEUED or run.count + len(frames) > DISK_REQUEST_PAGES:
            return None
        if request.run_count + len(added) > DISK_REQUEST_RUNS:
            return None
        struct.pack_into(f"<{len(added)}Q", request.runs, request.run_count * ENTRY, *added)
        request.run_count += len(added)
        run.count += len(frames)
        self._span(request, run, frames[-1])
        return run

    def host_disk_done(self, address: int) -> None:
        """DISK_DONE: the driver has finished the DiskRequest at linear `address`."""
        state = self.state
        status = DiskStatus(self._request(address).status)
        run = state.running.pop(address)
        disk = run.disk
        state.in_flight[disk] -= 1
        if not state.in_flight[disk]:
            del state.in_flight[disk]
            del state.last[disk]
        self.ended(run, status)
        state.free.append(address)
        self._wake_first()
        if not state.running:
            self.watch.rest()

    async def _take(self, disk: int) -> int:
        """Return the address of a DiskRequest; wait for one if the disk has as many as it may, or memory is short.

        A killed thread does not wait: KILLED.  An interrupt changes nothing: disks do answer.
        There always are some: they are never freed, and the first are made for the first read of a disk.
        """
        selector = self.scheduler.current.selector
        if disk not in self.state.waiting:
            address = self._free(disk)
            if address is not None:
                return address
        queue = self.state.waiting.setdefault(disk, [])
        queue.append(selector)
        try:
            while True:
                if self.scheduler.current.killed:
                    raise GivenUp(ErrorCode.KILLED)
                await routine("block", eax=WaitReason.DISK)
                if queue[0] == selector:
                    address = self._free(disk)
                    if address is not None:
                        return address
        finally:
            queue.remove(selector)
            if not queue:
                del self.state.waiting[disk]
            self._wake_first()

    def _free(self, disk: int) -> int | None:
        """Return the address of a free DiskRequest, None if the disk has to wait; NO_MEMORY if it would for ever."""
        state = self.state
        if state.in_flight.get(disk, 0) >= REQUESTS_OF_DISK:
            return None
        if not state.free:
            try:
                self._new_requests()
            except OutOfMemory:
                if not state.running:
                    raise
                return None
        return state.free.pop()

    def _wake_first(self) -> None:
        """Wake, for each disk, the thread that has waited longest for a request: one may be free."""
        for queue in self.state.waiting.values():
            self.scheduler.host_wake(queue[0])

    def _fill(self, address: int, run: Run, frames: Sequence[int]) -> None:
        state, disk = self.state, run.disk
        view = self.guest.ram.view(address - KERNEL_BASE, size_of(DiskRequest))
        view[:] = bytes(len(view))
        request, placed = DiskRequest.from_buffer(view), frame_runs(frames)
        request.disk = place_of(disk)
        request.status = DiskStatus.QUEUED
        request.lba = run.first * SECTORS_PER_PAGE
        request.run_count = len(placed)
        struct.pack_into(f"<{len(placed)}Q", view, RUNS, *placed)
        self._span(request, run, frames[-1])
        state.running[address] = run
        state.last[disk] = address
        state.in_flight[disk] = state.in_flight.get(disk, 0) + 1
        self.watch.begin()

    def _request(self, address: int) -> DiskRequest:
        return DiskRequest.from_buffer(self.guest.ram.view(address - KERNEL_BASE, size_of(DiskRequest)))

    def _span(self, request: DiskRequest, run: Run, last: int) -> None:
        """Write how many sectors a run takes, as far as the disk goes; `last` is the frame of its last block."""
        request.sectors = min(run.count * SECTORS_PER_PAGE, self.disks.sectors(run.disk) - request.lba)
        self._clear_behind(last, request.sectors * SECTOR_SIZE - (run.count - 1) * PAGE_SIZE)

    def host_disk_watched(self, _value: int) -> None:
        """DISK_WATCHED: the watch has checked the commands in flight."""
        self.watch.looked(in_flight=bool(self.state.running))

    def _clear_behind(self, frame: int, size: int) -> None:
        """Fill with zeros the part of the last block that lies after the end of the disk."""
        if size < PAGE_SIZE:
            self.guest.ram.write(frame + size, bytes(PAGE_SIZE - size), Account.KERNEL)

    def _new_requests(self) -> None:
        frame = self.low.allocate()
        self.state.free += [KERNEL_BASE + frame + at for at in reversed(range(0, PAGE_SIZE, REQUEST_SPAN))]


def runs(
    disk: int, numbers: Sequence[int], frames: Sequence[int], most: int = DISK_REQUEST_PAGES
) -> list[tuple[Run, Sequence[int]]]:
    """Cut sorted blocks of a disk into runs that one request each can read, with the frames of each.

    Its blocks follow each other, are `most` at most, and lie in few enough runs of frames.
    """
    result: list[tuple[Run, Sequence[int]]] = []
    for begin, end in stretches(numbers, 1):
        at = begin
        while at < end:
            stop = min(end, at + most)
            places = stretches(frames[at:stop], PAGE_SIZE)
            if len(places) > DISK_REQUEST_RUNS:
                stop = at + places[DISK_REQUEST_RUNS][0]
            result.append((Run(disk, numbers[at], stop - at), frames[at:stop]))
            at = stop
    return result


def frame_runs(frames: Sequence[int]) -> list[int]:
    """Return runs of page frames as a DiskRequest holds them."""
    return [frames[begin] | end - begin - 1 for begin, end in stretches(frames, PAGE_SIZE)]
