"""Answers of servers to posted READs: sectors or an object, checked, sorted, locked in the cache, and read.

Only the readers of the span wait for the disk; the server continues at once.
"""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import Message, ReplyType
from callgate.kernel.core.coroutines import CARRY, RoutineCall, execute, routine
from callgate.kernel.core.errors import GivenUp, PolicyError, ServerAnswer, ServerFault, Shortage, error_of_code
from callgate.kernel.core.records import EndpointState, SectorPiece
from callgate.kernel.file_data.completion import Completion
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.ipc.replies import Replies
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.disks import place_of
from callgate.kernel.storage.read_ahead import read_ahead


class Answers:
    """Receives the replies to READ (`Posted`)."""

    def __init__(
        self, state: FilesState, cache: Cache, requests: Requests, replies: Replies, completion: Completion
    ) -> None:
        self.state = state
        self.cache = cache
        self.requests = requests
        self.scheduler = requests.scheduler
        self.replies = replies
        self.completion = completion

    async def replied(self, endpoint: EndpointState, token: int, message: memoryview) -> RoutineCall | None:
        """REPLIED to a READ: sectors, an object, or registers alone, which mean an error or that there are no data.

        Return the routine that starts the disk's work, if there is any.  Every error of the reply ends the span: it
        fails, and its readers receive the error.
        """
        found = self._waiting(token)
        if found is None:
            return None
        file, span = found
        header = Message.from_buffer(message)
        if header.reply == ReplyType.REGISTERS:
            self._refused(endpoint, file, span, header)
            return None
        try:
            start = header.edx << 32 | header.ecx
            span.server_request = header.edi
            if span.server_request:
                self.completion.letting_go.releases.taken(endpoint)
            match ReplyType(header.reply):
                case ReplyType.OBJECT:
                    frames, span.pins = self.replies.object_frames(endpoint, message)
                    pieces = [(frame, 0, SECTORS_PER_PAGE) for frame in frames]
                    if self.completion.pages.begin(file, span, start, header.eax, pieces):
                        self.completion.pages.lay_out(file, span, start, header.eax, pieces)
                        self.completion.ready(file, span)
                    else:
                        self.completion.nothing_left(file, span)
                case ReplyType.SECTORS:
                    sectors = self.replies.sector_pieces(endpoint, message)
                    return await self._take_sectors(endpoint, file, span, (start, header.eax), sectors)
                case _:
                    raise ServerFault(ErrorCode.BAD_REPLY, "file data must be sectors or an object")
        except PolicyError as error:
            self._refuse(endpoint, file, span, error)
        return None

    async def opened(
        self, endpoint: EndpointState, file: FileObject, span: Span, covered: int, pieces: list[SectorPiece]
    ) -> None:
        """Take the sectors that came with the answer to OPEN, `covered` bytes from the file's beginning on.

        As a READ's: an error ends the span.  It may still be on its way from the disk at the return.
        """
        try:
            end = (endpoint.start + endpoint.sectors) // SECTORS_PER_PAGE
            submit = await self._take_sectors(endpoint, file, span, (0, covered), pieces, end)
            if submit is not None:
                await execute(submit)
        except PolicyError as error:
            self._refuse(endpoint, file, span, error)

    def _refuse(self, endpoint: EndpointState, file: FileObject, span: Span, error: PolicyError) -> None:
        """End a span by an error of its reply."""
        if isinstance(error, ServerFault):
            self.completion.log(f"{endpoint.name}: file data refused: {error}", endpoint)
            self.replies.slots.block(endpoint)["bad_replies"] += 1
        if span.state is SpanState.WAITING:
            self.completion.fail(file, span, error)

    def _waiting(self, number: int) -> tuple[FileObject, Span] | None:
        """Return the span of a number with its file; None if it no longer waits, because its server has died."""
        entry = self.state.waiting.get(number)
        if entry is None:
            return None
        return self.state.objects[entry[0]], entry[1]

    def _refused(self, endpoint: EndpointState, file: FileObject, span: Span, header: Message) -> None:
        """Fail a span whose server has answered with registers alone: with its error, or CORRUPT if it gave none."""
        refused = header.eflags & CARRY
        corrupt = ServerAnswer(ErrorCode.CORRUPT, "no data, and no error")
        self.completion.fail(file, span, self.requests.error_of(endpoint, header.eax) if refused else corrupt)

    async def _take_sectors(
        self,
        endpoint: EndpointState,
        file: FileObject,
        span: Span,
        extent: tuple[int, int],
        pieces: list[SectorPiece],
        end: int = 0,
    ) -> RoutineCall | None:
        """Sort the sectors of an extent (position, bytes), lock them in that order, and read the missing ones.

        Return the routine that submits the last disk request; None if nothing is missing. `end`: as for `read_ahead`.
        """
        pieces, covered = self._fitting(endpoint.disk, span, *extent, pieces)
        extents = [(int(lba is not None), first, sectors) for lba, first, sectors in pieces]
        if not self.completion.pages.begin(file, span, extent[0], covered, extents):
            self.completion.nothing_left(file, span)
            return None
        on_disk = [(index, piece) for index, piece in enumerate(pieces) if piece.lba is not None]
        frame = self.completion.lists.write(place_of(endpoint.disk), span.address, on_disk)
        if len(on_disk) > 1:
            await routine("sort_sectors", ebx=KERNEL_BASE + frame)
        if span.state is not SpanState.WAITING:
            # The server or its disk has died while this thread sorted, and the span has failed.
            self.completion.lists.release(frame)
            return None
        span.list_frame = frame
        if self.scheduler.current.killed:  # which ends the sorting early
            raise GivenUp(ErrorCode.KILLED)

        order, sectors = self.completion.lists.read(span.list_frame, len(on_disk))
        blocks = [sector // SECTORS_PER_PAGE for sector in sectors]
        locked = self.cache.lock(endpoint.disk, blocks)
        span.pins += [("block", *key) for key in locked.keys]
        frames = dict(zip(order, locked.frames, strict=True))
        found = [
            (0 if lba is None else frames[index], first, sectors) for index, (lba, first, sectors) in enumerate(pieces)
        ]
        self.completion.pages.lay_out(file, span, extent[0], covered, found)

        missing = {number for _, number in locked.missing}
        there = [index for index, block in enumerate(blocks) if block not in missing]
        if self.completion.lists.mark_arrived(span.list_frame, there):
            self.completion.arrived(span.number)
            return None
        self.completion.lists.link(span.list_frame)
        if end and locked.to_read:
            locked.to_read += read_ahead(self.cache, endpoint.disk, locked.to_read, end)
        return await self.cache.read(endpoint.disk, locked.to_read)

    def _fitting(
        self, disk: int, span: Span, start: int, covered: int, pieces: list[SectorPiece]
    ) -> tuple[list[SectorPiece], int]:
        """Leave out pieces that were not requested, or for which the cache has no room; NO_MEMORY if none is left.

        Also leave out the pieces after the first page for which one request would lock more than `Cache.most` blocks.
        Return the pieces and the bytes that they cover.
        """
        at = start
        asked = 0
        blocks: list[int] = []
        most, end, first_page = self.cache.most, span.end, span.position + PAGE_SIZE
        while asked < len(pieces) and at < end and (len(blocks) < most or at < first_page):
            lba, _, sectors = pieces[asked]
            if lba is not None:
                blocks.append(lba // SECTORS_PER_PAGE)
            at += sectors * SECTOR_SIZE
            asked += 1
        room = self.cache.fitting(disk, blocks)
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
        if at <= span.position < start + covered:
            raise Shortage(ErrorCode.NO_MEMORY, "every block of the disk cache is in use")
        return pieces[:kept], min(covered, at - start)

    def failed(self, endpoint: EndpointState, token: int) -> None:
        """Policy has answered a posted READ, because its server has ended: the span fails."""
        found = self._waiting(token)
        if found is not None:
            self.completion.fail(*found, error_of_code(endpoint.error))
