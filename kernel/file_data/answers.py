"""Answers of servers to posted READs: sectors or an object, checked, sorted, locked in the cache, and read.

Only the readers of the span wait for the disk; the server continues at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import Message, ReplyType
from callgate.kernel.common.stretches import stretches
from callgate.kernel.core.coroutines import CARRY, RoutineCall, execute, routine
from callgate.kernel.core.errors import GivenUp, PolicyError, ServerAnswer, ServerFault, Shortage, error_of_code
from callgate.kernel.core.records import BlockRun, EndpointState, SectorPiece
from callgate.kernel.file_data.completion import Completion
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.pages import Pieces
from callgate.kernel.file_data.spans import Span
from callgate.kernel.ipc.replies import Replies
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.cache_records import Locked
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
                    sectors = len(frames) * SECTORS_PER_PAGE
                    if self.completion.pages.begin(file, span, start, header.eax, [(True, 0, sectors)]):
                        self.completion.pages.lay_out(file, span, start, header.eax, [(frames, 0, sectors)])
                        self.completion.ready(file, span)
                    else:
                        self.completion.nothing_left(file, span)
                case ReplyType.SECTORS:
                    pieces = self.replies.sector_pieces(endpoint, message)
                    return await self._take_sectors(endpoint, file, span, (start, header.eax), pieces)
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
        extents = [(lba is not None, first, sectors) for lba, first, sectors in pieces]
        if not self.completion.pages.begin(file, span, extent[0], covered, extents):
            self.completion.nothing_left(file, span)
            return None
        lists = self.completion.lists
        frame, count = lists.write(place_of(endpoint.disk), span.address, pieces)
        ordered = in_order(pieces)
        if not ordered:
            await routine("sort_sectors", ebx=KERNEL_BASE + frame)
        if span.state is not SpanState.WAITING:
            # The server or its disk has died while this thread sorted, and the span has failed.
            lists.release(frame)
            return None
        span.list_frame = frame
        if self.scheduler.current.killed:  # which ends the sorting early
            raise GivenUp(ErrorCode.KILLED)

        blocks, places = (all_blocks(pieces), None) if ordered else lists.read(span.list_frame, count)
        locked = self.cache.lock(endpoint.disk, blocks)
        span.blocks += [BlockRun(endpoint.disk, blocks[begin], end - begin) for begin, end in stretches(blocks, 1)]
        frames = locked.frames if places is None else [locked.frames[place] for place in places]
        self.completion.pages.lay_out(file, span, extent[0], covered, with_frames(pieces, frames))

        if lists.mark_arrived(span.list_frame, locked.there):
            self.completion.arrived(span.number)
            return None
        lists.link(span.list_frame)
        return await self._read(locked, end)

    async def _read(self, locked: Locked, end: int) -> RoutineCall | None:
        """Read what is missing of locked blocks, and ahead if `end` is not 0."""
        disk, to_read = locked.disk, locked.to_read
        if end and to_read:
            return await self.cache.read(disk, [*to_read, *read_ahead(self.cache, disk, to_read, end)])
        # Where other requests read some of them already, the frames of the others have to be looked up.
        return await self.cache.read(disk, to_read, locked.frames if len(to_read) == len(locked.numbers) else None)

    def _fitting(
        self, disk: int, span: Span, start: int, covered: int, pieces: list[SectorPiece]
    ) -> tuple[list[SectorPiece], int]:
        """Leave out pieces that were not requested, or for which the cache has no room; NO_MEMORY if none is left.

        Also leave out the pieces after the first page for which one request would lock more than `Cache.most` blocks.
        Return the pieces and the bytes that they cover.
        """
        asked = self._asked(span, start, pieces)
        blocks = all_blocks(asked)
        room = self.cache.fitting(disk, blocks)
        if room == len(blocks):
            return asked, covered
        kept: list[SectorPiece] = []
        at = start
        for piece in asked:
            count = len(blocks_of(piece))
            if count > room:
                piece = shortened(piece, room)  # noqa: PLW2901 - the rest of it and of the others is left out
            room -= count
            at += piece.sectors * SECTOR_SIZE
            kept += [piece] if piece.sectors else []
            if room < 0:
                break
        if at <= span.position < start + covered:
            raise Shortage(ErrorCode.NO_MEMORY, "every block of the disk cache is in use")
        return kept, min(covered, at - start)

    def _asked(self, span: Span, start: int, pieces: list[SectorPiece]) -> list[SectorPiece]:
        """Return the pieces from `start` of the file on that a span asks for, as far as one request may lock blocks."""
        at, blocks = start, 0
        most, end, first_page = self.cache.most, span.end, span.position + PAGE_SIZE
        asked: list[SectorPiece] = []
        for piece in pieces:
            room = max(most - blocks, pages_of(first_page - at))
            if at >= end or room <= 0:
                break
            count = len(blocks_of(piece))
            wanted = min(count, pages_of(end - at), room)
            asked.append(piece if wanted == count else shortened(piece, wanted))
            at += asked[-1].sectors * SECTOR_SIZE
            blocks += wanted
        return asked

    def failed(self, endpoint: EndpointState, token: int) -> None:
        """Policy has answered a posted READ, because its server has ended: the span fails."""
        found = self._waiting(token)
        if found is not None:
            self.completion.fail(*found, error_of_code(endpoint.error))


def in_order(pieces: list[SectorPiece]) -> bool:
    """Whether pieces name sectors in ascending order, as those of a file in one place do: they need no sorting."""
    before = -1
    for lba, _, sectors in pieces:
        if lba is not None:
            if lba <= before:
                return False
            before = lba + sectors - 1
    return True


def all_blocks(pieces: list[SectorPiece]) -> Sequence[int]:
    """Return the numbers of the blocks of all pieces that lie on the disk; a `range` if one piece does."""
    runs = [blocks_of(piece) for piece in pieces if piece.lba is not None]
    return runs[0] if len(runs) == 1 else [block for run in runs for block in run]


def with_frames(pieces: list[SectorPiece], frames: Sequence[int]) -> Pieces:
    """Return pieces with the frames of their blocks, given those of all pieces."""
    found: Pieces = []
    at = 0
    for lba, first, sectors in pieces:
        after = at if lba is None else at + pages_of(sectors * SECTOR_SIZE)
        found.append((frames[at:after], first, sectors))
        at = after
    return found


def blocks_of(piece: SectorPiece) -> range:
    """Return the numbers of the blocks on the disk that a piece lies in: none for a hole."""
    if piece.lba is None:
        return range(0)
    return range(piece.lba // SECTORS_PER_PAGE, pages_of((piece.lba + piece.sectors) * SECTOR_SIZE))


def shortened(piece: SectorPiece, blocks: int) -> SectorPiece:
    """Return the first blocks of a piece of more of them."""
    return piece._replace(sectors=blocks * SECTORS_PER_PAGE)


def pages_of(size: int) -> int:
    """Return how many pages bytes from the beginning of a page on take."""
    return -(-size // PAGE_SIZE)
