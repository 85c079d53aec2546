"""Getting file data: requests posted to servers, replies turned into sector lists, completions into pages.

The way of a request block (`Fill`), with the routines in machine code that do the work:

    post      `ipc_take`, `ipc_post`: a READ that nobody waits for (asm/kernel/post.asm)
    replied   CONVERT: the server's sectors are sorted (`sort_sectors`), locked in the cache, and what is
              missing is counted and read; the server has gone on by then
    arrived   `lists_arrived`, from the disk driver's interrupt: counts down by binary search, and calls
              FILE_READY at zero; everything in the cache already takes the same way with nothing to count
    ready     pages are put together, the file's page is published, the readers are woken
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callgate.kernel.abi import selectors
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import REQUEST_BLOCKS, REQUEST_BLOCKS_OF_FILE
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES, Message, ReplyType
from callgate.kernel.coroutines import CARRY, routine
from callgate.kernel.disks import place_of
from callgate.kernel.errors import PolicyError
from callgate.kernel.file_objects import FileObject, Fill, FillState, publish
from callgate.kernel.file_pages import FilePages
from callgate.kernel.records import PartitionState, Pin, Thread
from callgate.kernel.sector_lists import SectorLists

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.replies import SectorPiece

FILL_BYTES = MESSAGE_ADDRESSES * PAGE_SIZE  # what one request can bring if it is aligned
TRIES = 100  # request blocks that a reader waits for until it has the one that it wants; a page takes 8 at most
STARVED_LIMIT = 5_000_000_000  # nanoseconds of virtual time for which a reader waits for others to have memory to spare


@dataclass(slots=True)
class Counters:
    """What happened to file data, for `--stats` and tests."""

    requests: int = 0  # READs posted
    ahead: int = 0  # of those, before anybody asked
    wasted: int = 0  # of those, thrown away before anybody did
    waits: int = 0  # readers that had to wait
    copied_pages: int = 0  # pages that were put together by copying


@dataclass(slots=True)
class Patience:
    """How long one reader goes on: a server's answers must not make it ask for ever."""

    tries: int = TRIES
    code: ErrorCode = ErrorCode.BAD_REPLY  # why it gives up
    until: int = 0  # clock at which it no longer waits for memory; 0 while it has not begun to

    def spend(self) -> None:
        """Go on once more, or raise why not."""
        if not self.tries:
            raise PolicyError(self.code)
        self.tries -= 1


@dataclass(slots=True)
class FillsState:
    """Records: request blocks on their way, by their numbers."""

    waiting: dict[int, tuple[int, Fill]] = field(default_factory=dict)  # number -> (file number, fill)
    next_number: int = 1
    blocks: int = 0  # request blocks of all files
    mapped: int = 0  # how often they are mapped: once for each window that shows one
    starved: list[int] = field(default_factory=list)  # selectors of threads that wait until somebody has his data
    counters: Counters = field(default_factory=Counters)


class Fills:
    """Posting, completion and release of request blocks."""

    def __init__(self, kernel: Kernel) -> None:
        self.state = kernel.state.fills
        self.kernel = kernel
        self.pages = FilePages(kernel)
        self.lists = SectorLists(kernel.state.sector_lists, kernel.guest, kernel.state.tasks, kernel.shares)

    # Asking.

    async def obtain(self, file: FileObject, position: int, wanted: int) -> Fill:
        """Return the READY request block that covers `position`, making it and waiting for it if need be.

        Whatever the server answers, it is asked `TRIES` times at most.
        """
        patience = Patience()
        while True:
            if self.kernel.scheduler.current.killed:
                raise PolicyError(ErrorCode.KILLED)
            patience.spend()
            self._check(file)
            fill = file.covering(position)
            if fill is None and file.shift is None:
                # Where pages begin is not known before the first data: one request at a time until then.
                fill = next((fill for fill in file.fills if fill.state is FillState.WAITING), None)
            if fill is None:
                fill = await self.post(file, position, wanted)
            if fill.state is FillState.READY:
                if await self._complete(file, fill, patience):
                    return fill
                continue
            await self._wait(fill)
            if fill.state is FillState.FAILED:
                await self._after(file, fill, patience)
            # The reply may have covered less than was asked for: look again.

    async def _after(self, file: FileObject, fill: Fill, patience: Patience) -> None:
        """A request block has FAILED: raise why, unless it is worth asking again.

        It is if the thread that asked for all has gone on the way, or a disk request for many blocks has failed
        because of one; and it may be for want of memory.
        """
        patience.code = fill.error
        if fill.error in {ErrorCode.KILLED, ErrorCode.INTERRUPTED}:
            patience.tries += 1
            return
        if fill.again:
            return
        if fill.error is not ErrorCode.NO_MEMORY:
            raise PolicyError(fill.error)
        if fill.theirs:
            await self._relieve(file)
        elif not self.kernel.file_windows.reclaim():
            await self._starve(patience)

    async def _relieve(self, file: FileObject) -> None:
        """A server has no memory: let go of idle data that it holds, and have it told.

        Data that lie in the cache, and other servers' data, would not help it.
        """
        if not self.kernel.file_windows.reclaim(server=file.partition):
            raise PolicyError(ErrorCode.NO_MEMORY)
        await self.kernel.give_backs.said(self.kernel.state.endpoints.by_number[file.partition])

    async def _starve(self, patience: Patience) -> None:
        """Wait until others have memory to spare; NO_MEMORY if nobody will, or nobody has for `STARVED_LIMIT`.

        They may be waiting for a server of theirs that does not answer, and this thread has not asked that one.
        """
        thread = self.kernel.scheduler.current
        now = self.kernel.guest.now
        patience.until = patience.until or now + STARVED_LIMIT
        if not self._busy() or now >= patience.until:
            raise PolicyError(ErrorCode.NO_MEMORY)
        self.kernel.threads.check_wait(thread)
        patience.tries += 1
        self.state.starved.append(thread.selector)
        self.kernel.scheduler.sleep_until(thread, patience.until)
        await routine("block", eax=WaitReason.FILE)
        self.kernel.scheduler.cancel_sleep(thread)
        if thread.selector in self.state.starved:
            self.state.starved.remove(thread.selector)

    def _busy(self) -> bool:
        """Whether data are on their way to somebody, or wait for him to look at them."""
        if self.state.waiting:
            return True
        return any(fill.kept for file in self.kernel.files.objects.values() for fill in file.fills)

    def _feed(self, fill: Fill) -> None:
        """Something has become of a request block: if it may be let go of, who has found no memory tries again.

        And if nobody is busy any more, because then nothing else will wake him.
        """
        if self.state.starved and (fill.idling or not self._busy()):
            starved, self.state.starved = self.state.starved, []
            self._wake(starved)

    def _wake(self, selectors: list[int]) -> None:
        threads: dict[int, Thread] = self.kernel.state.tasks.threads
        for selector in selectors:
            if selector in threads:
                self.kernel.scheduler.wake(threads[selector])

    async def _complete(self, file: FileObject, fill: Fill, patience: Patience) -> bool:
        """Whether a READY request block ends with a page; if not, ask for the rest of it, which takes the block over.

        A page that is half there must not be mapped: whoever touches the other half would read zeros.  Only if
        the server does not give the rest it stays so, for those who ask for no more than what is there.
        """
        if fill.stuck or fill.end >= file.size or file.page_start(file.page_of(fill.end)) == fill.end:
            return True
        try:
            with self.keeping(fill):
                more = file.covering(fill.end) or await self.post(file, fill.end, 1)
                if more.state is FillState.WAITING:
                    await self._wait(more)
            if more.state is FillState.FAILED:
                await self._after(file, more, patience)
        except PolicyError as error:
            if error.code in {ErrorCode.KILLED, ErrorCode.INTERRUPTED}:
                raise
            fill.stuck = True
        return False

    @contextmanager
    def keeping(self, fill: Fill) -> Iterator[None]:
        """Have a request block left alone, once it is READY, for a reader who is coming for it."""
        fill.kept += 1
        try:
            yield
        finally:
            fill.kept -= 1
            self._feed(fill)

    async def _wait(self, fill: Fill) -> None:
        thread = self.kernel.scheduler.current
        self.state.counters.waits += 1
        with self.keeping(fill):
            while fill.state is FillState.WAITING:
                self.kernel.threads.check_wait(thread)
                fill.waiters.append(thread.selector)
                await routine("block", eax=WaitReason.FILE)
                if thread.selector in fill.waiters:
                    fill.waiters.remove(thread.selector)

    def room_to_post(self, file: FileObject) -> bool:
        """Whether a request could be posted without waiting for a slot."""
        partition = self.kernel.state.endpoints.by_number[file.partition]
        fields = self.kernel.slots.block(partition)
        return not partition.dead and fields["slot_waiters"] == 0 and bool(fields["free"] | fields["unused"])

    async def post(self, file: FileObject, position: int, wanted: int, *, ahead: bool = False) -> Fill:
        """Make a request block from the page of `position` on, and post its READ."""
        self._check(file)
        self._make_room(file)
        self.kernel.give_backs.check_room(self.kernel.state.endpoints.by_number[file.partition])
        start = file.page_start(file.page_of(position))
        covering = file.covering(start)
        if covering is not None:
            start = covering.end
        most = min(FILL_BYTES, self.kernel.cache.most * PAGE_SIZE)
        length = min(max(wanted + position - start, 1), most, file.next_start(start) - start)
        length = self._to_page_end(file, start, length)
        state = self.state
        family = self.lists.reserve(self.kernel.scheduler.current.process)
        fill = Fill(state.next_number, start, length, ahead=ahead, family=family)
        state.next_number += 1
        state.waiting[fill.number] = (file.number, fill)
        self._insert(file, fill)
        try:
            await self._send(file, fill)
        except PolicyError as error:
            self.fail(file, fill, error.code)
            raise
        state.counters.requests += 1
        state.counters.ahead += ahead
        return fill

    def _make_room(self, file: FileObject) -> None:
        """Let go of idle request blocks until there may be one more, of this file and in all; NO_MEMORY."""
        windows = self.kernel.file_windows
        while len(file.fills) >= REQUEST_BLOCKS_OF_FILE:
            if not windows.reclaim(only=file):
                raise PolicyError(ErrorCode.NO_MEMORY, f"{len(file.fills)} ranges of a file are on their way")
        while self.state.blocks >= REQUEST_BLOCKS:
            if not windows.reclaim():
                raise PolicyError(ErrorCode.NO_MEMORY, f"{self.state.blocks} ranges of files are on their way")

    def _insert(self, file: FileObject, fill: Fill) -> None:
        file.insert(fill)
        self.state.blocks += 1

    def _to_page_end(self, file: FileObject, start: int, length: int) -> int:
        """Extend a range to the end of its last page, as far as the file and the next request block allow."""
        end = file.page_start(file.page_of(start + length - 1) + 1)
        return min(end, file.next_start(start), file.size) - start

    async def _send(self, file: FileObject, fill: Fill, done: int = 0) -> None:
        kernel = self.kernel
        partition = kernel.state.endpoints.by_number[file.partition]
        block = kernel.threads.block(kernel.scheduler.current)
        block["request_partition"] = (selectors.GDT_FIRST_PARTITION + partition.number) * 8
        taken = await routine("ipc_take")
        if taken.failed:
            raise PolicyError(ErrorCode(taken.eax))
        partition.posted[taken.ecx] = fill.number
        block["slot"] = taken.ecx
        block["request_operation"] = Operation.READ
        block["request_partition"] = (selectors.GDT_FIRST_PARTITION + partition.number) * 8
        position = fill.position + done
        await routine(
            "ipc_post",
            eax=position & 0xFFFF_FFFF,
            ebx=file.server_file,
            ecx=fill.length - done,
            edx=position >> 32,
        )

    def _check(self, file: FileObject) -> None:
        if file.error is not ErrorCode.OK:
            raise PolicyError(file.error)
        if not file.opens:
            raise PolicyError(ErrorCode.BAD_HANDLE)  # closed while somebody was reading

    # The server's answer.

    async def replied(self, partition: PartitionState, slot: int, message: memoryview) -> None:
        """CONVERT of a posted READ: an object or sectors reply."""
        found = self._take_posted(partition, slot)
        if found is None:
            return
        file, fill = found
        header = Message.from_buffer(message)
        try:
            start = header.edx << 32 | header.ecx
            fill.server_request = header.edi
            if fill.server_request:
                self.kernel.give_backs.taken(partition)
            match ReplyType(header.reply):
                case ReplyType.OBJECT:
                    frames, fill.pins = self.kernel.replies.object_frames(partition, message)
                    pieces = [(frame, 0, SECTORS_PER_PAGE) for frame in frames]
                    if self.pages.begin(file, fill, start, header.eax, pieces):
                        self.pages.lay_out(file, fill, start, header.eax, pieces)
                        self._ready(file, fill)
                    else:
                        self._nothing_left(file, fill)
                case ReplyType.SECTORS:
                    await self._take_sectors(partition, file, fill, message)
                case _:
                    raise PolicyError(ErrorCode.BAD_REPLY, "file data must be sectors or an object")
        except PolicyError as error:
            killed = error.code is ErrorCode.KILLED
            if error.code is not ErrorCode.NO_MEMORY and not killed:  # which are not the server's fault
                self.kernel.log(f"{partition.name}: file data refused: {error}", partition)
                self.kernel.slots.block(partition)["bad_replies"] += 1
            if fill.state is FillState.WAITING:
                self.fail(file, fill, ErrorCode.SERVER_DIED if killed else error.code)

    def dropped(self, partition: PartitionState, slot: int, message: memoryview) -> None:
        """SLOT_DROP of a posted READ: the server answered with registers, an error or nothing there."""
        found = self._take_posted(partition, slot)
        if found is None:
            return
        file, fill = found
        header = Message.from_buffer(message)
        fill.theirs = True
        refused = header.eflags & CARRY
        self.fail(file, fill, self.kernel.requests.error_of(partition, header.eax) if refused else ErrorCode.CORRUPT)

    def failed(self, partition: PartitionState, slot: int) -> None:
        """A posted request got an answer from policy: its server is gone."""
        found = self._take_posted(partition, slot)
        if found is not None:
            self.fail(*found, partition.error)

    def _take_posted(self, partition: PartitionState, slot: int) -> tuple[FileObject, Fill] | None:
        number = partition.posted.pop(slot, None)
        entry = self.state.waiting.get(number) if number is not None else None
        if entry is None:
            return None
        file = self.kernel.files.objects.get(entry[0])
        return None if file is None else (file, entry[1])

    async def _take_sectors(self, partition: PartitionState, file: FileObject, fill: Fill, message: memoryview) -> None:
        """Sort the sectors, lock them in the cache in that order, and start what is missing."""
        kernel = self.kernel
        header = Message.from_buffer(message)
        start, covered = header.edx << 32 | header.ecx, header.eax
        pieces = kernel.replies.sector_pieces(partition, message)
        pieces, covered = self._fitting(partition.disk, fill, start, covered, pieces)
        extents = [(int(piece.lba is not None), piece.first, piece.sectors) for piece in pieces]
        if not self.pages.begin(file, fill, start, covered, extents):
            self._nothing_left(file, fill)
            return
        on_disk = [(index, piece) for index, piece in enumerate(pieces) if piece.lba is not None]
        frame = self.lists.write(place_of(partition.disk), fill.number, on_disk)
        await routine("sort_sectors", ebx=KERNEL_BASE + frame)
        if fill.state is not FillState.WAITING:
            # The server or its disk has gone meanwhile, and the request block has failed.
            self.lists.release(frame)
            return
        fill.list_frame = frame
        if kernel.scheduler.current.killed:  # which ends the sorting early
            raise PolicyError(ErrorCode.KILLED)

        order, sectors = self.lists.read(fill.list_frame, len(on_disk))
        blocks = [sector // SECTORS_PER_PAGE for sector in sectors]
        locked = kernel.cache.lock(partition.disk, blocks)
        fill.pins += [("block", *key) for key in locked.keys]
        frames = dict(zip(order, locked.frames, strict=True))
        found = [
            (frames[index] if piece.lba is not None else 0, piece.first, piece.sectors)
            for index, piece in enumerate(pieces)
        ]
        self.pages.lay_out(file, fill, start, covered, found)

        missing = set(locked.missing)
        there = [index for index, block in enumerate(blocks) if (partition.disk, block) not in missing]
        if self.lists.mark_arrived(fill.list_frame, there):
            self.arrived(fill.number)
            return
        self.lists.link(fill.list_frame)
        await kernel.cache.read(partition.disk, locked.to_read)

    def _fitting(
        self, disk: int, fill: Fill, start: int, covered: int, pieces: list[SectorPiece]
    ) -> tuple[list[SectorPiece], int]:
        """Leave out pieces that were not asked for, or that the cache has no room for; NO_MEMORY if that is all.

        And what is behind the first page, if it lies in so many blocks that they are more than one request may bring.
        """
        at = start
        asked = 0
        blocks: list[int] = []
        most = self.kernel.cache.most
        while asked < len(pieces) and at < fill.end and (len(blocks) < most or at < fill.position + PAGE_SIZE):
            piece = pieces[asked]
            if piece.lba is not None:
                blocks.append(piece.lba // SECTORS_PER_PAGE)
            at += piece.sectors * SECTOR_SIZE
            asked += 1
        room = self.kernel.cache.fitting(disk, blocks)
        if room == len(blocks):
            return pieces[:asked], covered
        kept = 0
        at = start
        for piece in pieces[:asked]:
            room -= piece.lba is not None
            if room < 0:
                break
            at += piece.sectors * SECTOR_SIZE
            kept += 1
        if at <= fill.position < start + covered:
            raise PolicyError(ErrorCode.NO_MEMORY, "every block of the disk cache is in use")
        return pieces[:kept], min(covered, at - start)

    # The disk's answer.

    def host_file_ready(self, number: int) -> None:
        """FILE_READY: nothing is missing any more of request block `number`."""
        self.arrived(number)

    def left_unread(self, keys: set[tuple[int, int]]) -> None:
        """The thread that was to read these blocks will not: count them down in the lists that wait for them."""
        for number, (_, fill) in list(self.state.waiting.items()):
            if keys.isdisjoint((disk, block) for kind, disk, block in fill.pins if kind == "block"):
                continue
            if self.lists.linked(fill.list_frame) and self.lists.mark_unread(fill.list_frame, keys):
                self.arrived(number)

    def arrived(self, number: int) -> None:
        """Finish a request block whose sectors have all been read, or failed."""
        entry = self.state.waiting.get(number)
        if entry is None:
            return
        file, fill = self.kernel.files.objects[entry[0]], entry[1]
        error, again = self._cut_at_failure(file, fill)
        if error is not None and not again:
            server = self.kernel.state.endpoints.by_number[file.partition]
            self.kernel.log(f"{server.name}: {error}", server)
        if error is not None and not fill.parts:
            self.fail(file, fill, error.code, again=again)
            return
        try:
            self._ready(file, fill)
        except PolicyError as problem:
            self.fail(file, fill, problem.code)

    def _cut_at_failure(self, file: FileObject, fill: Fill) -> tuple[PolicyError | None, bool]:
        """End a request block before the first page that could not be read; return why, if there is one.

        And whether it is worth asking again, because others were to be read together with that page.
        """
        cache = self.kernel.cache
        keys = [(disk, block) for kind, disk, block in fill.pins if kind == "block"]
        bad = {cache.frame(key): key for key in cache.failures(keys)}
        for index, parts in enumerate(fill.parts if bad else ()):
            frames = {parts} if isinstance(parts, int) else {part.source & -PAGE_SIZE for part in parts}
            found = next((frame for frame in frames if frame in bad), None)
            if found is not None:
                del fill.parts[index:]
                fill.length = max(0, file.page_start(fill.first_page + index) - fill.position)
                result = cache.failed(bad[found]), bad[found] in cache.state.alone
                self._let_go_of_blocks(fill)
                return result
        return None, False

    def _let_go_of_blocks(self, fill: Fill) -> None:
        """Unlock what a request block has been cut short of: nobody reads a bad block again while it is locked."""
        cache = self.kernel.cache
        used = {parts for parts in fill.parts if isinstance(parts, int)}
        used |= {part.source & -PAGE_SIZE for parts in fill.parts if not isinstance(parts, int) for part in parts}
        if fill.begun is not None:
            used.add(fill.begun.source & -PAGE_SIZE)
        kept: list[Pin] = []
        gone: list[Pin] = []
        for pin in fill.pins:
            (kept if pin[0] != "block" or cache.frame((pin[1], pin[2])) in used else gone).append(pin)
        self.kernel.pins.release(gone)
        fill.pins = kept

    def _ready(self, file: FileObject, fill: Fill) -> None:
        """Put the pages together, publish them, wake the readers."""
        for parts in fill.parts:
            frame = self.pages.make(fill, parts)
            fill.frames.append(frame)
            fill.whole.append(self.pages.whole(parts, frame))
        fill.parts = []
        fill.state = FillState.READY
        self._settle(fill)
        publish(self.kernel.guest.ram, file)
        self.kernel.ageing_timer.watch()
        self.kernel.files.finish_closing(file)

    def fail(self, file: FileObject, fill: Fill, code: ErrorCode, *, again: bool = False) -> None:
        """End a request block without data; readers get the error or ask `again`, later ones ask again anyhow."""
        fill.state, fill.error, fill.again = FillState.FAILED, code, again
        self._settle(fill)
        before = self.pages.give_back(file, fill)
        self.drop(file, fill)
        if before is not None:
            before.number = self.state.next_number
            before.stuck = not again and code is not ErrorCode.NO_MEMORY
            self.state.next_number += 1
            self._insert(file, before)
            publish(self.kernel.guest.ram, file)
        self.kernel.files.finish_closing(file)

    def _nothing_left(self, file: FileObject, fill: Fill) -> None:
        """End a request block that told only where pages begin; its readers ask again."""
        fill.state = FillState.READY
        self._settle(fill)
        self.drop(file, fill)
        self.kernel.files.finish_closing(file)

    def _settle(self, fill: Fill) -> None:
        """A request block is READY or FAILED: forget what was for the way there, wake who waits."""
        if self.state.waiting.pop(fill.number, None) is not None:
            self.lists.unreserve(fill.family)
        if fill.list_frame:
            self.lists.release(fill.list_frame)
            fill.list_frame = 0
        waiters, fill.waiters = fill.waiters, []
        self._wake(waiters)
        self._feed(fill)

    def drop(self, file: FileObject, fill: Fill) -> None:
        """Let go of what a request block holds; nobody has it mapped."""
        if fill in file.fills:
            file.fills.remove(fill)
            self.state.blocks -= 1
        self.kernel.pins.release(fill.pins)
        for frame in fill.private:
            self.kernel.memory.low.release(frame)
        fill.pins, fill.private, fill.frames, fill.whole, fill.parts = [], [], [], [], []
        if fill.ahead:
            self.state.counters.wasted += 1
        if fill.server_request and file.error is ErrorCode.OK:
            server = self.kernel.state.endpoints.by_number[file.partition]
            self.kernel.give_backs.add(server, Operation.RELEASE, fill.server_request)
        fill.server_request = 0
