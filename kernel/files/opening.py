"""File objects: opening, sharing, reading a program whole, and the death of their volume.

There is one file object for a file, however many processes have it open and however often: servers tell by an
identity that two opens are of the same file.
"""

from __future__ import annotations

from callgate.kernel.abi.calls import OPEN_CLOSES, Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import ReplyType
from callgate.kernel.core.errors import CallerError, PolicyError, error_of_code
from callgate.kernel.core.records import EndpointState, SectorPiece
from callgate.kernel.file_data.answers import Answers
from callgate.kernel.file_data.fetching import SPAN_BYTES, Fetching
from callgate.kernel.file_data.objects import FileObject, FilesState, publish
from callgate.kernel.files.names import Names
from callgate.kernel.ipc.requests import RequestReply
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.tasks.shares import Shares


class FileOpening:
    """The part of OPEN that concerns servers."""

    def __init__(self, state: FilesState, names: Names, shares: Shares, fetching: Fetching, answers: Answers) -> None:
        self.state = state
        self.names = names
        self.shares = shares
        self.fetching = fetching
        self.answers = answers
        self.letting_go = fetching.letting_go

    async def open_object(
        self, endpoint: EndpointState, path: tuple[int, int], *, from_start: bool = False
    ) -> FileObject:
        """Open the file at a path (kernel address, bytes) of a volume, or share it if it is open already.

        `from_start`: the server is asked for the first data, too, and need not be told of its end at once.  They are
        on their way then, or the READ that is posted for them finds out why not.
        """
        self.names.check(endpoint, Operation.OPEN, path)
        await self.letting_go.releases.catch_up(endpoint)
        self.letting_go.releases.check_room(endpoint)
        reply = await self.names.open(endpoint, path, SPAN_BYTES if from_start else 0)
        registers = reply.registers
        pieces = self._first_pieces(endpoint, reply) if from_start else []
        endpoint.closes_at_open = bool(registers.ebx & OPEN_CLOSES)
        self.letting_go.releases.taken(endpoint)
        await reply.finish()
        if registers.ebx & FileAttributes.DIRECTORY:
            self.letting_go.close_at_server(endpoint, registers.eax)
            raise CallerError(ErrorCode.IS_DIRECTORY)
        shared = self._shared(endpoint, registers.edi)
        if shared is not None:
            shared.opens += 1
            self.letting_go.close_at_server(endpoint, registers.eax)
            return shared
        if endpoint.dead:
            raise error_of_code(endpoint.error)
        state = self.state
        try:
            frame = self.shares.frame_for_files()
        except PolicyError:
            self.letting_go.close_at_server(endpoint, registers.eax)
            raise
        self.letting_go.mapping.tables.clear(frame)
        size = registers.edx << 32 | registers.ecx
        attributes = registers.ebx & ~OPEN_CLOSES
        file = FileObject(
            state.next_object, endpoint.number, registers.eax, registers.edi, size, attributes, frame, opens=1
        )
        file.brief = from_start
        state.next_object += 1
        state.objects[file.number] = file
        publish(self.letting_go.guest.ram, file)
        if pieces:
            await self._take_first(endpoint, file, registers.esi, pieces)
        return file

    def _first_pieces(self, endpoint: EndpointState, reply: RequestReply) -> list[SectorPiece]:
        """Return the pieces of a sectors reply, which CONVERT has checked; none of another one."""
        if reply.kind != ReplyType.SECTORS:
            return []
        return self.answers.replies.sector_pieces(endpoint, self.answers.replies.slots.message(endpoint, reply.slot))

    async def _take_first(
        self, endpoint: EndpointState, file: FileObject, covered: int, pieces: list[SectorPiece]
    ) -> None:
        """Bring in the data that came with the answer; without room for them a READ asks again."""
        try:
            span = self.fetching.begin(file, 0, SPAN_BYTES)
        except PolicyError:
            return
        await self.answers.opened(endpoint, file, span, covered, pieces)

    def _shared(self, endpoint: EndpointState, identity: int) -> FileObject | None:
        if not identity:
            return None
        for file in self.state.objects.values():
            if (file.endpoint, file.identity) == (endpoint.number, identity) and file.error is ErrorCode.OK:
                return file
        return None

    def endpoint_died(self, endpoint: EndpointState, code: ErrorCode) -> None:
        """The disk or the server of a volume is gone: its files are invalid, their data leaves every window."""
        for file in list(self.state.objects.values()):
            if file.endpoint != endpoint.number or file.error is not ErrorCode.OK:
                continue
            file.error = code
            for span in list(file.spans):
                if span.state is SpanState.WAITING:
                    self.fetching.completion.fail(file, span, error_of_code(code))
                elif span in file.spans:
                    self.letting_go.release(file, span)
            if file.number in self.state.objects:  # else it was being closed, and was removed with its last span
                publish(self.letting_go.guest.ram, file)

    async def read_all(self, endpoint: EndpointState, path: tuple[int, int], limit: int, parent: int) -> bytes:
        """Return the content of a small file: the program that process `parent` starts."""
        file = await self.open_object(endpoint, path)
        shares = self.shares
        family = shares.family_of(0, parent)
        data = bytearray()
        try:
            if file.size > limit:
                raise CallerError(ErrorCode.NOT_EXECUTABLE, f"{file.size} bytes are too many")
            while len(data) < file.size:
                span = await self.fetching.obtain(file, len(data), file.size)
                span.ahead = False
                shares.check_loading(parent, span.end - len(data))
                piece = self._bytes(file, len(data), span.end)
                shares.note_loading(family, len(piece))
                data += piece
            return bytes(data)
        finally:
            shares.note_loading(family, -len(data))
            self.letting_go.close_object(file)

    def _bytes(self, file: FileObject, start: int, end: int) -> bytes:
        """Copy bytes of one READY span."""
        span = file.covering(start)
        assert span is not None
        pieces = []
        at = start
        while at < end:
            within = (at + (file.shift or 0)) % PAGE_SIZE
            size = min(end - at, PAGE_SIZE - within)
            frame = span.frames[file.page_of(at) - span.first_page]
            pieces.append(self.letting_go.guest.ram.read(frame + within, size, Account.PROGRAM))
            at += size
        return b"".join(pieces)
